"""Commands that ask a trained network, or take its weights in and out."""

from pathlib import Path
from typing import Annotated

import typer

from benchmark.base.errors import UserError
from benchmark.cli.options import (
    RUNS,
    DataOption,
    DeviceOption,
    ImagesOption,
    OfflineOption,
    PretrainedOption,
    RunsOption,
    console,
)

app = typer.Typer()


@app.command()
def evaluate(
    run: Annotated[str | None, typer.Argument(help="A finished run: key, unique beginning, or folder.")] = None,
    split: Annotated[str, typer.Option()] = "val",
    method: Annotated[str | None, typer.Option(help="With --weights, in place of a run.")] = None,
    variant: Annotated[str, typer.Option(help="Of the method, with --weights.")] = "paper",
    weights: Annotated[Path | None, typer.Option(help="A checkpoint file of the authors' code, or an export.")] = None,
    dataset: Annotated[str | None, typer.Option(help="With --weights; refcocog:google splits by google.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Measure as published, too: cris (also ETRIS), lavt or caris.")
    ] = None,
    text_blind: Annotated[
        bool, typer.Option("--text-blind", help="Also what can be had without reading the sentence.")
    ] = False,
    noise_seeds: Annotated[int, typer.Option(min=1, help="Draws of a method's own noise (SaG), averaged.")] = 1,
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    out: Annotated[Path | None, typer.Option(help="Write the records there (parquet).")] = None,
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Evaluate a run's chosen weights, or a checkpoint file, on a split and print the numbers with intervals."""
    from benchmark.evaluation import inference
    from benchmark.runs.execution import Place
    from benchmark.runs.preset import read_preset
    from benchmark.runs.rundir import find_run
    from benchmark.training import worker

    if (run is None) == (weights is None):
        raise UserError("name either a run, or --method, --weights and --dataset.")
    if weights is None:
        loaded = inference.load(find_run(runs, run), lambda directory: worker.place_of(directory, data, images), device)
    elif method is None or dataset is None:
        raise UserError("with --weights, say which network and data they are for: --method and --dataset.")
    else:
        place = Place(data or read_preset("paper").data, images)
        loaded = inference.load_checkpoint(weights, method, variant, dataset, place, device, console)
    inference.measure(loaded, split, protocol, out, console, text_blind, noise_seeds)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A finished run: key, unique beginning, or folder.")],
    form: Annotated[
        str, typer.Option("--format", help="published (as the authors' code saves) or safetensors.")
    ] = "published",
    out: Annotated[Path | None, typer.Option(help="File to write [KEY.pth or KEY.safetensors].")] = None,
    runs: RunsOption = RUNS,
) -> None:
    """Write a run's chosen weights under the names of the method's published checkpoints."""
    from benchmark.evaluation import inference
    from benchmark.runs.rundir import find_run

    path = inference.export(find_run(runs, run), form, out)
    console.print(f"wrote {path}")


@app.command("pseudo-masks")
def pseudo_masks(
    run: Annotated[str, typer.Argument(help="A finished weakly supervised run: key, unique beginning, or folder.")],
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Write what a run says of its training split, for a second network to be trained on (TRIS, step 2)."""
    from benchmark.evaluation import inference
    from benchmark.runs.rundir import find_run
    from benchmark.training import pseudo_masks, worker

    directory = find_run(runs, run)
    loaded = inference.load(directory, lambda found: worker.place_of(found, data, images), device)
    path = pseudo_masks.make(directory, loaded.method, loaded.dataset, loaded.tokenizer, loaded.device, console)
    console.print(f"wrote {path}")


@app.command()
def predict(
    run: Annotated[str, typer.Argument(help="A run: key, unique beginning, or folder.")],
    image: Annotated[Path, typer.Argument(help="A photograph.")],
    sentence: Annotated[str, typer.Argument(help="A referring expression.")],
    out: Annotated[Path, typer.Option(help="Folder for mask.png and overlay.png.")] = Path("prediction"),
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    device: DeviceOption = "auto",
) -> None:
    """Segment what a sentence names in a photograph: writes the mask and an overlay."""
    from benchmark.evaluation import inference
    from benchmark.runs.rundir import find_run
    from benchmark.training import worker

    loaded = inference.load(find_run(runs, run), lambda directory: worker.place_of(directory, data, images), device)
    paths, share = inference.predict_file(loaded, image, sentence, out)
    for path in paths:
        console.print(f"wrote {path}")
    console.print(
        f"{100 * share:.1f} % of the image is marked" if share else "the network marks nothing for this sentence"
    )
