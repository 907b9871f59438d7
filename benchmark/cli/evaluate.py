"""The command that evaluates a trained network on a split, in this process or as a job."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark import launch
from benchmark.base import weights_files
from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write
from benchmark.cli.jobs import conclude
from benchmark.cli.kept import Kept, Row
from benchmark.cli.options import DeviceOption, Where, console, errors, named, run_keys, spread
from benchmark.cli.printing import image_progress, print_metrics, print_noise, print_text_blind

if TYPE_CHECKING:  # Help must not import torch and pandas.
    from benchmark.evaluation.checkpoint_files import Fit
    from benchmark.evaluation.inference import Loaded
    from benchmark.evaluation.split_results import SplitResults
    from benchmark.runs.rundir import RunDir

app = typer.Typer()


@dataclasses.dataclass(frozen=True)
class What:
    """Options that say what is measured, and of which network."""

    split: Annotated[str, typer.Option("--split", help="Split to evaluate on.")] = "val"
    method: Annotated[
        str | None,
        typer.Option("--method", help="Method of the checkpoint file. An export says its own."),
    ] = None
    variant: Annotated[
        str | None,
        typer.Option(
            "--variant",
            help="Variant of the checkpoint file (default: the one that an export says, or paper).",
        ),
    ] = None
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="A checkpoint file of the authors' code, or an export."),
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help="Data set of the split, as NAME or NAME:SPLIT_BY (default: the run's).",
        ),
    ] = None
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", help="Also measure as the published script of this name did."),
    ] = None
    text_blind: Annotated[
        bool,
        typer.Option(
            "--text-blind",
            help="Also measure masks that ignore the sentence, and keep the numbers with the run.",
        ),
    ] = False
    noise_seeds: Annotated[
        int,
        typer.Option(
            "--noise-seeds", min=1, help="Number of seeds of a method's own noise to average over."
        ),
    ] = 1
    out: Annotated[Path | None, typer.Option("--out", help="File for the records (parquet).")] = (
        None
    )
    device: DeviceOption = "auto"

    def arguments(self) -> dict[str, object]:
        """Return option -> value, as a job's command line gives them."""
        return {name.replace("_", "-"): value for name, value in vars(self).items()}

    def checkpoint(self) -> dict[str, str | None]:
        """Return where the checkpoint file lies, and what the options say of its network."""
        path = str(self.weights.resolve())
        return {"path": path, "method": self.method, "variant": self.variant}


@app.command(rich_help_panel="Checkpoints")
@spread
def evaluate(
    what: What,
    where: Where,
    row: Row,
    run: Annotated[
        str | None,
        typer.Argument(
            help="A finished run: key, unique beginning, or folder.", autocompletion=run_keys
        ),
    ] = None,
    launcher: Annotated[
        str | None,
        named(
            "--launcher",
            launch.LAUNCHERS.names,
            "Launcher that starts the command as a job (default: this process works on it).",
        ),
    ] = None,
) -> None:
    """Evaluate a run or a checkpoint file on a split.

    The command prints the numbers with their intervals. With --name, it keeps what a checkpoint
    file predicts as a run, which tables, claims and robustness take.

    Example: risbench evaluate RUN --split testA

    Example: risbench evaluate --weights lavt.pth --method lavt --dataset refcoco --name released
    """
    if (run is None) == (what.weights is None):
        raise UserError("name either a run, or --method, --weights and --dataset.")
    if what.weights and what.dataset is None:
        raise UserError(
            "with --weights, say which network and data they are for: --dataset, and --method where"
            " no run was exported to the file."
        )
    if run:
        row.check_unused("keep what a checkpoint file predicts: leave them out for a run")
    elif not row.name:
        row.check_unused("belong to --name, which says what tables call the predictions")
    if what.weights and what.weights.exists():
        # A file that nobody can read is refused before torch is imported, which takes seconds.
        weights_files.check(what.weights)
    if launcher:
        _in_a_job(launcher, run, what, where, row)
    else:
        _here(run, what, where, row)


def _in_a_job(name: str, run: str | None, what: What, where: Where, row: Row) -> None:
    """Submit the command as a job, wait until it ends, and print its log."""
    from benchmark.launch.jobs import evaluation_job
    from benchmark.launch.outcomes import work_through
    from benchmark.runs.execution import Execution
    from benchmark.runs.rundir import find_run

    launcher = launch.LAUNCHERS.get(name)(slots=1)
    execution = Execution.of(device=what.device)
    key = find_run(where.runs, run).key if run else None
    options = what.arguments() | row.arguments()
    job = evaluation_job(key, options, where.places(), execution, launcher)
    # Earlier evaluations of the same split have written to the same log.
    start = job.log.stat().st_size if job.log.exists() else 0
    outcomes = work_through(launcher, [job], console, "evaluations")

    def print_log() -> None:
        with job.log.open() as log:
            log.seek(start)
            typer.echo(log.read(), nl=False)

    conclude(outcomes, print_log)


def _here(run: str | None, what: What, where: Where, row: Row) -> None:
    """Evaluate in this process, and print what was measured."""
    from benchmark.evaluation.split_results import evaluate_split, noise_numbers
    from benchmark.runs.rundir import find_run

    loaded = _checkpoint(what, where) if run is None else _run(run, what, where)
    tell_device(what.device, loaded)
    kept = Kept.begin(row, where.runs, loaded, what.checkpoint()) if row.name else None
    with image_progress(loaded.dataset, what.split) as on_image:
        results = evaluate_split(
            loaded,
            what.split,
            protocol=what.protocol,
            text_blind=what.text_blind,
            on_image=kept.collecting(on_image) if kept else on_image,
        )
    if what.out:
        records = results.records
        atomic_write(what.out, lambda temporary: records.to_parquet(temporary, index=False))
    if run:
        _keep(find_run(where.runs, run), what, results)
    if kept:
        _keep(kept.write(what.split, what.device), what, results)
    print_metrics(f"{loaded.name} on {what.split}", results.numbers, results.intervals)
    if results.as_published:
        print_metrics(f"as published ({what.protocol})", results.as_published)
    if results.text_blind:
        print_text_blind(results.text_blind)
    if what.noise_seeds > 1:
        with image_progress(loaded.dataset, what.split) as on_image:
            numbers = noise_numbers(loaded, what.split, results.records, what.noise_seeds, on_image)
        print_noise(numbers)


def _keep(directory: RunDir, what: What, results: SplitResults) -> None:
    """Keep with a run what was measured besides its records, if it reports the split."""
    from benchmark.evaluation.published_scores import write_counts
    from benchmark.evaluation.text_blind_scores import write_scores
    from benchmark.runs.comparisons import reported_as

    split = reported_as(directory.any_spec(), what.dataset, what.split)
    if split is None:
        return
    if results.counts is not None:
        write_counts(directory, what.protocol, split, results.counts, directory.records(split))
    if results.text_blind:
        write_scores(directory, split, results.text_blind, directory.records(split))


# --- the network ----------------------------------------------------------------------


def _run(name: str, what: What, where: Where) -> Loaded:
    """Load the network of a run, with the data of the split to evaluate on."""
    from benchmark.data import datasets
    from benchmark.evaluation import inference
    from benchmark.runs.opened import Opened, places_of
    from benchmark.runs.rundir import find_run

    directory = find_run(where.runs, name)
    opened = Opened(places_of(directory, where.places()))
    loaded = inference.load(directory, opened, what.device)
    if what.dataset is None:
        return loaded
    # The split may belong to another data set than the one that the run was trained on.
    dataset = opened.dataset(*datasets.parse(what.dataset, opened.places.data))
    return dataclasses.replace(loaded, dataset=dataset)


def _checkpoint(what: What, where: Where) -> Loaded:
    """Load a network from a checkpoint file, and print which entries of the file fit."""
    from benchmark.data import datasets
    from benchmark.evaluation import inference
    from benchmark.runs.opened import Opened
    from benchmark.runs.preset import read_preset

    folder = where.data or read_preset("paper").data
    return inference.load_checkpoint(
        what.weights,
        what.method,
        what.variant,
        *datasets.parse(what.dataset, folder),
        Opened(where.places(data=folder)),
        what.device,
        on_fit=lambda fitted: _print_fit(fitted, what.weights),
    )


def tell_device(name: str, loaded: Loaded) -> None:
    """Say on which device a network is where `auto` chose it."""
    from benchmark.evaluation.devices import describe_choice

    # The output itself may be read by a program.
    if choice := describe_choice(name, loaded.device):
        errors.print(choice)


# --- printing -------------------------------------------------------------------------


def _print_fit(fitted: Fit, path: Path) -> None:
    """Print how a checkpoint file fits a network.

    This is the number of entries that are used, and a list of those that are not used or missing.
    """
    used = len(fitted.weights)
    unused = len(fitted.unneeded) + len(fitted.unknown)
    missing = len(fitted.missing)
    console.print(f"{path}: {used} entries taken, {unused} not used, {missing} missing")
    for entry, reason in fitted.unneeded.items():
        console.print(f"  not needed ({reason}): {entry}", soft_wrap=True)
    for entry in fitted.unknown:
        console.print(f"  not used, unknown to this network: {entry}", soft_wrap=True)
    for entry in fitted.missing:
        console.print(f"  missing: {entry}", soft_wrap=True)
