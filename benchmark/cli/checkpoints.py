"""Commands that use the chosen weights of a run.

They write the weights to a file, segment a photograph, or make targets for another run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.options import (
    RUNS,
    DeviceOption,
    RunArgument,
    RunsOption,
    ThreadsOption,
    Where,
    console,
    spread,
)

if TYPE_CHECKING:  # Help must not import torch and pandas.
    from benchmark.evaluation.inference import Loaded

app = typer.Typer()
PANEL = "Checkpoints"


def _loaded(name: str, where: Where, device: str) -> Loaded:
    """Load the network of a run.

    Its data are those that the options name, or those that the run found last.
    """
    from benchmark.evaluation import inference
    from benchmark.runs.opened import Opened
    from benchmark.runs.rundir import find_run
    from benchmark.training.worker import places_of

    directory = find_run(where.runs, name)
    opened = Opened(places_of(directory, where.places()))
    return inference.load(directory, opened, device)


@app.command(rich_help_panel=PANEL)
def export(
    run: RunArgument,
    form: Annotated[
        str,
        typer.Option("--format", help="published (as the authors' code saves it) or safetensors."),
    ] = "published",
    out: Annotated[
        Path | None, typer.Option(help="File to write (default: KEY.pth or KEY.safetensors).")
    ] = None,
    runs: RunsOption = RUNS,
) -> None:
    """Write a run's chosen weights as a checkpoint file.

    The entries have the names of the method's published checkpoints.

    Example: risbench export RUN --format safetensors
    """
    from benchmark.evaluation import checkpoint_files, inference
    from benchmark.runs.rundir import find_run

    directory = find_run(runs, run)
    path = checkpoint_files.export(directory, inference.best_weights(directory), form, out)
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
    image: Annotated[Path, typer.Argument(help="A photograph.")],
    sentence: Annotated[str, typer.Argument(help="A referring expression.")],
    where: Where,
    out: Annotated[Path, typer.Option(help="Folder for mask.png and overlay.png.")] = Path(
        "prediction"
    ),
    device: DeviceOption = "auto",
) -> None:
    """Segment the object that a sentence names in a photograph.

    The command writes the mask and an overlay.

    Example: risbench predict RUN photo.jpg "the woman on the left"
    """
    from benchmark.evaluation import inference

    paths, fraction = inference.predict_file(_loaded(run, where, device), image, sentence, out)
    for path in paths:
        console.print(f"wrote {path}")
    console.print(
        f"{100 * fraction:.1f} % of the image is marked"
        if fraction
        else "the network marks nothing for this sentence"
    )
