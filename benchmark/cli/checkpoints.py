"""Commands that evaluate a trained network, or take its weights in and out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write
from benchmark.cli.options import (
    RUNS,
    DataOption,
    DeviceOption,
    ImagesOption,
    OfflineOption,
    PretrainedOption,
    RunsOption,
    console,
    places,
)

if TYPE_CHECKING:  # help does without torch and pandas
    import pandas as pd

    from benchmark.evaluation.checkpoint_files import Fit
    from benchmark.evaluation.inference import Loaded
    from benchmark.evaluation.records import Prediction
    from benchmark.runs.execution import Places
    from benchmark.runs.resolve import Opened
    from benchmark.runs.rundir import RunDir

app = typer.Typer()
PANEL = "Checkpoints"


@app.command(rich_help_panel=PANEL)
def evaluate(
    run: Annotated[
        str | None, typer.Argument(help="A finished run: key, unique beginning, or folder.")
    ] = None,
    split: Annotated[str, typer.Option()] = "val",
    method: Annotated[str | None, typer.Option(help="With --weights, in place of a run.")] = None,
    variant: Annotated[str, typer.Option(help="Of the method, with --weights.")] = "paper",
    weights: Annotated[
        Path | None, typer.Option(help="A checkpoint file of the authors' code, or an export.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Data set of the split [the run's]; refcocog:google splits by google."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Measure as published, too: cris (also ETRIS), lavt or caris."),
    ] = None,
    text_blind: Annotated[
        bool,
        typer.Option("--text-blind", help="Also what can be had without reading the sentence."),
    ] = False,
    noise_seeds: Annotated[
        int, typer.Option(min=1, help="Draws of a method's own noise (SaG), averaged.")
    ] = 1,
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    out: Annotated[Path | None, typer.Option(help="Write the records there (parquet).")] = None,
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Evaluate a run or a checkpoint file on a split and print the numbers with intervals.

    Example: risbench evaluate lavt-tiny-maskris --split testA
    """
    from benchmark.data import datasets
    from benchmark.evaluation import inference
    from benchmark.evaluation import text_blind as baseline
    from benchmark.evaluation.split_results import evaluate_split, noise_numbers
    from benchmark.runs.preset import read_preset
    from benchmark.runs.resolve import Opened
    from benchmark.runs.rundir import find_run

    if (run is None) == (weights is None):
        raise UserError("name either a run, or --method, --weights and --dataset.")
    if weights is None:
        directory = find_run(runs, run)
        where = places(data, images, runs, pretrained=pretrained, offline=offline)
        opened = _opened(directory, where)
        loaded = inference.load(directory, opened, device)
        if dataset:  # a split of another set than the run was trained on
            loaded = dataclasses.replace(loaded, dataset=opened.dataset(*datasets.parse(dataset)))
    elif method is None or dataset is None:
        raise UserError(
            "with --weights, say which network and data they are for: --method and --dataset."
        )
    else:
        folder = data or read_preset("paper").data
        where = places(folder, images, runs, pretrained=pretrained, offline=offline)
        loaded = inference.load_checkpoint(
            weights,
            method,
            variant,
            *datasets.parse(dataset),
            Opened(where),
            device,
            on_fit=lambda fitted: _print_fit(fitted, weights),
        )
    with _progress(loaded, split) as on_image:
        results = evaluate_split(
            loaded, split, protocol=protocol, text_blind=text_blind, on_image=on_image
        )
    if out:
        atomic_write(out, lambda aside: results.records.to_parquet(aside, index=False))
    _print_metrics(f"{loaded.name} on {split}", results.numbers, results.intervals)
    if results.as_published:
        _print_metrics(f"as published ({protocol})", results.as_published)
    if results.text_blind:
        cells = {
            baseline.HEADINGS[name]: f"{100 * value:.2f}"
            for name, value in results.text_blind.items()
        }
        _print_table("mIoU without reading the sentence", ["mIoU of", "percent"], cells.items())
    if noise_seeds > 1:
        with _progress(loaded, split) as on_image:
            numbers = noise_numbers(loaded, split, results.records, noise_seeds, on_image)
        _print_noise(numbers)


def _opened(run: RunDir, where: Places) -> Opened:
    """Return what reads the data of a run, where they are named or where it found them last."""
    from benchmark.runs.resolve import Opened
    from benchmark.training.worker import places_of

    return Opened(places_of(run, where))


@contextmanager
def _progress(loaded: Loaded, split: str) -> Iterator[Callable[[Prediction], None]]:
    """Show a progress bar over the images of a split; yield what is called with every image."""
    total = len({ref.image_id for ref in loaded.dataset.refs_of(split)})
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"evaluating {split}", total=total)
        yield lambda prediction: progress.advance(bar)


def _print_fit(fitted: Fit, path: Path) -> None:
    """Print what of a checkpoint file is used, and by name what is not used or missing."""
    unused = len(fitted.unneeded) + len(fitted.unknown)
    taken, missing = len(fitted.weights), len(fitted.missing)
    console.print(f"{path}: {taken} entries taken, {unused} not used, {missing} missing")
    for entry, reason in fitted.unneeded.items():
        console.print(f"  not needed ({reason}): {entry}", soft_wrap=True)
    for entry in fitted.unknown:
        console.print(f"  not used, unknown to this network: {entry}", soft_wrap=True)
    for entry in fitted.missing:
        console.print(f"  missing: {entry}", soft_wrap=True)


def _print_metrics(
    title: str,
    numbers: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Print metrics in their units, with their intervals where there are some."""
    from benchmark.evaluation import metrics

    def shown(name: str, value: float) -> str:
        return f"{metrics.get(name).factor * value:.2f}"

    rows = []
    for name, value in numbers.items():
        row = [_label(name), "-" if value != value else shown(name, value)]
        if intervals:
            low, high = intervals[name]
            row.append(f"[{shown(name, low)}, {shown(name, high)}]")
        rows.append(row)
    columns = ["metric", "value"] + ["95 % interval (images resampled)"] * bool(intervals)
    _print_table(title, columns, rows)


def _print_noise(numbers: pd.DataFrame) -> None:
    """Print mean and standard deviation of the metrics over draws of a method's noise."""
    from benchmark.evaluation import metrics

    rows = []
    for name in numbers:
        shown = metrics.get(name).factor * numbers[name]
        rows.append([_label(name), f"{shown.mean():.2f}", f"{shown.std(ddof=1):.2f}"])
    title = f"over {len(numbers)} noise seeds"
    _print_table(title, ["metric", "mean", "standard deviation"], rows)


def _label(name: str) -> str:
    """Return what a metric is called in a table, with its unit."""
    from benchmark.evaluation import metrics

    metric = metrics.get(name)
    return f"{metric.heading}, {'%' if metric.unit == 'percent' else metric.unit}"


def _print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    console.print(title, style="italic", soft_wrap=True)
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    console.print(table)


@app.command(rich_help_panel=PANEL)
def export(
    run: Annotated[str, typer.Argument(help="A finished run: key, unique beginning, or folder.")],
    form: Annotated[
        str,
        typer.Option("--format", help="published (as the authors' code saves) or safetensors."),
    ] = "published",
    out: Annotated[
        Path | None, typer.Option(help="File to write [KEY.pth or KEY.safetensors].")
    ] = None,
    runs: RunsOption = RUNS,
) -> None:
    """Write a run's chosen weights under the names of the method's published checkpoints.

    Example: risbench export lavt-tiny-maskris --format safetensors
    """
    from benchmark.evaluation import checkpoint_files, inference
    from benchmark.runs.rundir import find_run

    directory = find_run(runs, run)
    path = checkpoint_files.export(directory, inference.best_weights(directory), form, out)
    console.print(f"wrote {path}")


@app.command("pseudo-masks", rich_help_panel=PANEL)
def pseudo_masks(
    run: Annotated[
        str,
        typer.Argument(help="A finished weakly supervised run: key, unique beginning, or folder."),
    ],
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
    device: DeviceOption = "auto",
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Write what a run says of its training split, for a second network to be trained on.

    Example: risbench pseudo-masks tris-tiny-baseline
    """
    import torch

    from benchmark.evaluation import inference
    from benchmark.runs.rundir import find_run
    from benchmark.training import pseudo_masks

    directory = find_run(runs, run)
    opened = _opened(directory, places(data, images, runs, pretrained=pretrained, offline=offline))
    loaded = inference.load(directory, opened, device)
    torch.set_num_threads(threads)
    path = pseudo_masks.make(directory, loaded, opened.places.weights, console)
    console.print(f"wrote {path}")


@app.command(rich_help_panel=PANEL)
def predict(
    run: Annotated[str, typer.Argument(help="A run: key, unique beginning, or folder.")],
    image: Annotated[Path, typer.Argument(help="A photograph.")],
    sentence: Annotated[str, typer.Argument(help="A referring expression.")],
    out: Annotated[Path, typer.Option(help="Folder for mask.png and overlay.png.")] = Path(
        "prediction"
    ),
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Segment what a sentence names in a photograph: writes the mask and an overlay."""
    from benchmark.evaluation import inference
    from benchmark.runs.rundir import find_run

    directory = find_run(runs, run)
    where = places(data, images, runs, pretrained=pretrained, offline=offline)
    loaded = inference.load(directory, _opened(directory, where), device)
    paths, fraction = inference.predict_file(loaded, image, sentence, out)
    for path in paths:
        console.print(f"wrote {path}")
    console.print(
        f"{100 * fraction:.1f} % of the image is marked"
        if fraction
        else "the network marks nothing for this sentence"
    )
