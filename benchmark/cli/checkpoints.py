"""Commands that use the chosen weights of a run.

They write the weights to a file, segment a photograph, or make targets for another run.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.base.errors import UserError, choose
from benchmark.cli.evaluate import tell_device
from benchmark.cli.options import (
    DeviceOption,
    RunArgument,
    ThreadsOption,
    Where,
    console,
    spread,
)
from benchmark.cli.printing import image_progress

if TYPE_CHECKING:  # Help must not import torch and pandas.
    import pandas as pd

    from benchmark.evaluation.inference import Loaded
    from benchmark.runs.rundir import RunDir

app = typer.Typer()
PANEL = "Checkpoints"


def _loaded(name: str, where: Where, device: str) -> Loaded:
    """Load the network of a run.

    Its data are those that the options name, or those that the run found last.
    """
    from benchmark.evaluation import inference
    from benchmark.runs.opened import Opened, places_of
    from benchmark.runs.rundir import find_run

    directory = find_run(where.runs, name)
    opened = Opened(places_of(directory, where.places()))
    loaded = inference.load(directory, opened, device)
    tell_device(device, loaded)
    return loaded


def _on_split(run: RunDir, split: str, where: Where, device: str) -> tuple[Loaded, str]:
    """Load the network of a run with the data of a split, and return the split's name in them."""
    from benchmark.evaluation import inference
    from benchmark.runs.opened import Opened, places_of

    opened = Opened(places_of(run, where.places()))
    loaded = inference.load(run, opened, device)
    tell_device(device, loaded)
    dataset, own_name = opened.split(run.any_spec(), split)
    choose(own_name, dataset.splits, f"split of {dataset.name}")
    return dataclasses.replace(loaded, dataset=dataset), own_name


@app.command(rich_help_panel=PANEL)
@spread
def export(
    run: RunArgument,
    where: Where,
    form: Annotated[
        str,
        typer.Option("--format", help="published (as the authors' code saves it) or safetensors."),
    ] = "published",
    out: Annotated[
        Path | None, typer.Option(help="File to write (default: KEY.pth or KEY.safetensors).")
    ] = None,
) -> None:
    """Write a run's chosen weights as a checkpoint file.

    The entries have the names of the method's published checkpoints. Beside them the file says
    what its numbers depend on, word pieces included, and `evaluate` uses it.

    Example: risbench export RUN --format safetensors
    """
    from benchmark.evaluation import checkpoint_files, inference
    from benchmark.runs.rundir import find_run

    directory = find_run(where.runs, run)
    weights = inference.best_weights(directory)
    path = checkpoint_files.export(directory, where.places(), weights, form, out)
    console.print(f"wrote {path}")


@app.command("pseudo-masks", rich_help_panel=PANEL)
@spread
def pseudo_masks(
    run: RunArgument, where: Where, device: DeviceOption = "auto", threads: ThreadsOption = 1
) -> None:
    """Write the masks that a weakly supervised run predicts for its training split.

    A second network can be trained on them.

    Example: risbench pseudo-masks RUN
    """
    import torch

    from benchmark.runs.rundir import find_run
    from benchmark.training import pseudo_masks

    loaded = _loaded(run, where, device)
    torch.set_num_threads(threads)
    weights = where.places().weights
    path = pseudo_masks.make(find_run(where.runs, run), loaded, weights, console)
    console.print(f"wrote {path}")


@app.command(rich_help_panel=PANEL)
@spread
def predict(
    run: RunArgument,
    where: Where,
    image: Annotated[Path | None, typer.Argument(help="A photograph.")] = None,
    sentence: Annotated[str | None, typer.Argument(help="A referring expression.")] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Split whose masks are written, in place of a photograph."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for mask.png and overlay.png (default: prediction), or file for the masks"
            " of a split, which ends in .json, .jsonl, .json.gz, .jsonl.gz or .parquet (default:"
            " KEY-SPLIT.json)."
        ),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
) -> None:
    """Segment the object that a sentence names in a photograph, or export the masks of a split.

    The masks of a split are written in COCO's format of results, with run-length codes, as JSON,
    JSON Lines or parquet. `risbench score` reads such files. A finished run has stored its masks.
    Where it has not, the network runs, and the masks are stored.

    Example: risbench predict RUN photo.jpg "the woman on the left"

    Example: risbench predict RUN --split testA
    """
    if (split is None) == (image is None) or (image is None) != (sentence is None):
        raise UserError("name either a photograph and a sentence, or --split.")
    if split:
        _export_masks(run, split, where, out, device, threads)
        return
    import torch

    from benchmark.evaluation import inference

    torch.set_num_threads(threads)
    folder = out or Path("prediction")
    paths, fraction = inference.predict_file(_loaded(run, where, device), image, sentence, folder)
    for path in paths:
        console.print(f"wrote {path}")
    console.print(
        f"{100 * fraction:.1f} % of the image is marked"
        if fraction
        else "the network marks nothing for this sentence"
    )


def _export_masks(
    name: str, split: str, where: Where, out: Path | None, device: str, threads: int
) -> None:
    """Write the masks of a split, stored ones or those that the network makes now."""
    from benchmark.evaluation.prediction_files import check_out, write_predictions
    from benchmark.runs import splits
    from benchmark.runs.rundir import find_run

    run = find_run(where.runs, name)
    split = splits.parse(split) if ":" in split else split
    path = out or Path(f"{run.key}-{split}.json")
    check_out(path)
    if run.masks_path(split).exists():
        records, masks = run.records(split), run.masks(split)
    else:
        records, masks = _predicted(run, split, where, device, threads)
    write_predictions(path, records, masks)
    console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _predicted(
    run: RunDir, split: str, where: Where, device: str, threads: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return records and masks that the network of a run makes now, and store the masks with it.

    They are stored if the run reports the split, and if its records were made from these masks.
    """
    import torch

    from benchmark.evaluation.split_results import differing, split_masks

    torch.set_num_threads(threads)
    loaded, own_name = _on_split(run, split, where, device)
    with image_progress(loaded.dataset, own_name) as on_image:
        records, masks = split_masks(loaded, own_name, on_image)
    if split in run.any_spec().selection.report and run.status().state == "done":
        if differs := differing(records, run.records(split)):
            console.print(
                f"the masks are not stored with the run, since {differs} of {len(records)} differ"
                " from those of its records: give the --device and --threads that it was evaluated"
                " with.",
                soft_wrap=True,
            )
        else:
            with run.claim(console.print):
                run.write_masks(split, masks)
    return records, masks
