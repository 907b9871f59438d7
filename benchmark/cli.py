"""risbench: the commands, and nothing else."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmark.errors import Interrupted, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Referring image segmentation methods with and without MaskRIS, under one data pipeline and one evaluator.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at data sets and write the embedded ones.")
app.add_typer(data_app, name="data")
# Tables need 100 columns; where nobody looks at a terminal, 80 would be assumed.
WIDTH = None if sys.stdout.isatty() else 110
console, errors = Console(width=WIDTH), Console(stderr=True, highlight=False)

RunsOption = Annotated[Path, typer.Option("--runs", envvar="RISBENCH_RUNS", help="Folder of the run directories.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder that holds refcoco/, refcoco+/, ... [preset's]")
]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder of the photographs [DATA/images/train2014].")
]
PresetOption = Annotated[str, typer.Option("--preset", help="A shipped preset or a YAML file.")]
MethodsOption = Annotated[str | None, typer.Option("--methods", help="Comma-separated; narrows the preset.")]
StrategiesOption = Annotated[str | None, typer.Option("--strategies", help="Comma-separated.")]
DatasetsOption = Annotated[
    str | None, typer.Option("--datasets", help="Comma-separated; refcocog:google splits RefCOCOg by google.")
]
VariantsOption = Annotated[str | None, typer.Option("--variants", help="Comma-separated.")]
SeedsOption = Annotated[str | None, typer.Option("--seeds", help="Comma-separated.")]
UriOption = Annotated[
    str | None, typer.Option("--uri", envvar="MLFLOW_TRACKING_URI", help="MLflow store [RUNS/mlflow.db].")
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for the tables.")]
RUNS, OUT = Path("runs"), Path("reports/out")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(name) for name in _names(text) or []]
    except ValueError:
        raise UserError(f"--seeds takes whole numbers separated by commas, not '{text}'.") from None


def _matrix(
    preset: str,
    methods: str | None,
    strategies: str | None,
    datasets: str | None,
    variants: str | None,
    seeds: str | None,
    data: Path | None,
    images: Path | None,
) -> Any:
    """Return the resolved matrix of the options that plan, matrix, run and report share."""
    from benchmark import matrix

    narrowed = matrix.narrow(
        matrix.read_preset(preset),
        methods=_names(methods),
        strategies=_names(strategies),
        datasets=_names(datasets),
        variants=_names(variants),
        seeds=_numbers(seeds),
    )
    with console.status("reading the data"):
        return matrix.resolve(Path(preset).stem, narrowed, data, images)


@app.command()
def plan(
    preset: PresetOption = "quick",
    methods: MethodsOption = None,
    strategies: StrategiesOption = None,
    datasets: DatasetsOption = None,
    variants: VariantsOption = None,
    seeds: SeedsOption = None,
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    measure: Annotated[bool, typer.Option(help="Time one step of each network for the estimate.")] = True,
) -> None:
    """Show what would run: states, steps, parameters and an estimated time from a measured step."""
    from benchmark import planning

    found = _matrix(preset, methods, strategies, datasets, variants, seeds, data, images)
    planning.show(found, runs, measure, console)


@app.command()
def matrix(
    preset: PresetOption = "quick",
    methods: MethodsOption = None,
    strategies: StrategiesOption = None,
    datasets: DatasetsOption = None,
    variants: VariantsOption = None,
    seeds: SeedsOption = None,
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time [preset's].")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes (GPUs) per run.")] = 1,
    sync: Annotated[bool, typer.Option(help="Project the runs into MLflow while they go on.")] = True,
    uri: UriOption = None,
    out: OutOption = OUT,
) -> None:
    """Run what is not done yet and write the tables; failed runs are reported at the end and do not stop the rest."""
    from benchmark import groups, launchers

    found = _matrix(preset, methods, strategies, datasets, variants, seeds, data, images)
    directories = found.directories(runs)
    for spec, run in zip(found.specs, directories, strict=True):
        run.create(spec)
    groups.write_group(runs, found.name, "preset", [spec.key for spec in found.specs])
    left = [run for run in directories if run.status()["state"] != "done"]
    # Two-pass runs first: the longest ones must not be what everything waits for at the end.
    left.sort(key=lambda run: not run.spec().strategy.distillation)
    console.print(f"{len(directories)} runs in {runs}: {len(directories) - len(left)} done, {len(left)} to do")
    child = launchers.start_sync(runs, uri) if sync else None
    outcomes = launchers.run_all(left, found.place, found.execution, jobs or found.preset.jobs, processes, console)
    if child and not launchers.stop_sync(child):
        errors.print(
            f"MLflow did not take everything (see {runs / 'sync.log'}); nothing is lost: run `risbench sync` later."
        )
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        errors.print(f"[red]failed[/red] {outcome.key}: {outcome.reason}")
    if any(outcome.state == "stopped" for outcome in outcomes) or len(outcomes) < len(left):
        console.print("stopped; the same command goes on from here")
        raise typer.Exit(130)
    if len(failed) < len(directories):
        _write_report(found, runs, out)
    if failed:
        raise typer.Exit(1)


def _single(found: Any) -> Any:
    if len(found.specs) != 1:
        raise UserError(
            f"these options name {len(found.specs)} runs; `risbench run` takes one, `risbench matrix` several."
        )
    return found.specs[0]


@app.command()
def run(
    method: Annotated[str, typer.Option()],
    strategy: Annotated[str, typer.Option()] = "baseline",
    dataset: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    variant: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    seed: Annotated[int | None, typer.Option(help="[preset's first]")] = None,
    preset: PresetOption = "quick",
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
) -> None:
    """Train and evaluate one run in this process; started again, it goes on from where it was."""
    from benchmark import matrix as matrices
    from benchmark import worker
    from benchmark.rundir import RunDir

    chosen = matrices.read_preset(preset)
    found = _matrix(
        preset,
        method,
        strategy,
        dataset or chosen.datasets[0],
        variant or chosen.variants[0],
        str(chosen.seeds[0] if seed is None else seed),
        data,
        images,
    )
    spec = _single(found)
    directory = RunDir(runs / spec.key)
    directory.create(spec)
    worker.work(directory, found.place, found.execution, console)


@app.command()
def resume(
    key: Annotated[str, typer.Argument(help="A run key, or the unique beginning of one.")],
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    device: Annotated[str, typer.Option()] = "auto",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    workers: Annotated[int, typer.Option(min=0)] = 0,
    checkpoint_seconds: Annotated[float, typer.Option(min=0)] = 60.0,
    log_every: Annotated[int, typer.Option(min=1)] = 10,
) -> None:
    """Work on one planned or interrupted run in this process, whatever matrix it belongs to."""
    from benchmark import worker
    from benchmark.rundir import find_run
    from benchmark.training import Execution

    directory = find_run(runs, key)
    place = worker.place_of(directory, data, images)
    worker.work(directory, place, Execution(device, threads, workers, checkpoint_seconds, log_every), console)


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="A finished run: key, unique beginning, or folder.")],
    split: Annotated[str, typer.Option()] = "val",
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    out: Annotated[Path | None, typer.Option(help="Write the records there (parquet).")] = None,
    device: Annotated[str, typer.Option()] = "auto",
) -> None:
    """Evaluate a run's chosen weights on a split again and print its numbers with intervals."""
    from benchmark import evaluation, inference, metrics, worker

    loaded = inference.load(_find(runs, run), lambda directory: worker.place_of(directory, data, images), device)
    with console.status(f"evaluating {split}"):
        records = evaluation.evaluate(loaded.method, loaded.dataset, split, loaded.tokeniser, loaded.device)
    if out:
        records.to_parquet(out, index=False)
    inference.show(metrics.metrics(records), metrics.intervals(records), f"{loaded.run.key} on {split}", console)


def _find(runs: Path, name: str) -> Any:
    from benchmark.rundir import find_run

    return find_run(runs, name)


@app.command()
def predict(
    run: Annotated[str, typer.Argument(help="A run: key, unique beginning, or folder.")],
    image: Annotated[Path, typer.Argument(help="A photograph.")],
    sentence: Annotated[str, typer.Argument(help="A referring expression.")],
    out: Annotated[Path, typer.Option(help="Folder for mask.png and overlay.png.")] = Path("prediction"),
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    device: Annotated[str, typer.Option()] = "auto",
) -> None:
    """Segment what a sentence names in a photograph: writes the mask and an overlay."""
    from benchmark import inference, worker

    loaded = inference.load(_find(runs, run), lambda directory: worker.place_of(directory, data, images), device)
    paths, share = inference.predict_file(loaded, image, sentence, out)
    for path in paths:
        console.print(f"wrote {path}")
    console.print(
        f"{100 * share:.1f} % of the image is marked" if share else "the network marks nothing for this sentence"
    )


@app.command()
def report(
    preset: PresetOption = "quick",
    methods: MethodsOption = None,
    strategies: StrategiesOption = None,
    datasets: DatasetsOption = None,
    variants: VariantsOption = None,
    seeds: SeedsOption = None,
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    out: OutOption = OUT,
) -> None:
    """Write the comparison tables (Markdown, CSV, LaTeX) of a preset's finished runs and print them."""
    _write_report(_matrix(preset, methods, strategies, datasets, variants, seeds, data, images), runs, out)


def _write_report(found: Any, runs: Path, out: Path) -> None:
    from reports import tables

    paths = tables.write_report(found.name, found.preset.description, found.specs, runs, out)
    tables.render(console, found.specs, runs)
    for path in paths:
        console.print(f"wrote {path}")


@app.command()
def sync(
    runs: RunsOption = RUNS,
    uri: UriOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until the parent process ends.")] = False,
) -> None:
    """Project the run directories into MLflow: idempotent, and again after the database was lost."""
    from benchmark import tracking

    if watch:
        tracking.watch(runs, uri, os.getppid())
    else:
        console.print(str(tracking.sync(runs, uri)))


@app.command()
def ui(
    runs: RunsOption = RUNS,
    uri: UriOption = None,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 5000,
) -> None:
    """Bring MLflow up to date and open its UI on it."""
    from benchmark import tracking

    console.print(str(tracking.sync(runs, uri)))
    console.print(f"MLflow UI on http://{host}:{port}/#/experiments?workflowType=machine_learning (Ctrl-C ends it)")
    command = tracking.ui_command(runs, uri, host, port)
    os.execvp(command[0], command)


@app.command("runs")
def list_runs(runs: RunsOption = RUNS) -> None:
    """List the run directories and their states."""
    from benchmark.rundir import all_runs

    if not all_runs(runs):
        raise UserError(f"there are no runs in {runs}; start some with `risbench matrix --preset quick`.")
    table = Table("run", "state", "step", "val oIoU", "note", box=None)
    for directory in all_runs(runs):
        status = directory.status()
        best = status.get("best")
        table.add_row(
            directory.key,
            status["state"],
            f"{status.get('step', 0)}/{status.get('steps', '?')}",
            "" if best is None or best < 0 else f"{100 * best:.2f}",
            status.get("reason", ""),
        )
    console.print(table)


@app.command()
def pack(
    out: Annotated[Path, typer.Argument(help="Folder for the archives.")],
    runs: RunsOption = RUNS,
    megabytes: Annotated[float, typer.Option(help="Largest archive.")] = 15.5,
) -> None:
    """Archive run directories without weights and resume points, to carry them elsewhere and sync or report there."""
    from benchmark import packing

    for path in packing.pack(runs, out, int(megabytes * 2**20)):
        console.print(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB)")


@app.command()
def unpack(archives: Annotated[list[Path], typer.Argument(help="What `pack` wrote.")], runs: RunsOption = RUNS) -> None:
    """Unpack archives into the runs folder; runs that are there already are left alone."""
    from benchmark import packing

    console.print(f"unpacked {packing.unpack(archives, runs)} runs into {runs}")


@data_app.command("check")
def data_check(
    root: Annotated[Path, typer.Argument(help="Folder that holds refcoco/, refcoco+/, refcocog/ ...")],
    images: ImagesOption = None,
    full: Annotated[bool, typer.Option("--full", help="Decode every image, too.")] = False,
) -> None:
    """Compare a REFER folder with the known counts and name what is missing, damaged or different."""
    from benchmark.data import check

    if not check.render(check.check(root, images, full, console), console):
        raise typer.Exit(1)


@data_app.command("refshapes")
def data_refshapes(
    root: Annotated[Path, typer.Argument(help="Folder to write into.")],
    name: Annotated[str, typer.Option(help="refshapes, refshapes+ or refshapesg.")] = "refshapes",
    train: Annotated[int, typer.Option(min=1)] = 2000,
    val: Annotated[int, typer.Option(min=1)] = 200,
    test: Annotated[int, typer.Option(min=1, help="Images of testA and of testB.")] = 150,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Write an embedded data set in REFER's layout."""
    from benchmark.data.refshapes import RefShapesSize, write_refshapes

    write_refshapes(root, name, RefShapesSize(train, val, test, test), seed)
    console.print(f"wrote {root / name}")


def guarded(command: Callable[[], None]) -> int:
    """Run a command; a user error becomes one sentence and exit code 1, Ctrl-C exit code 130."""
    try:
        command()
    except UserError as error:
        errors.print(f"[red]error:[/red] {error}", soft_wrap=True)
        return 1
    except (Interrupted, KeyboardInterrupt) as stop:
        errors.print(str(stop) or "stopped")
        return 130
    return 0


def main() -> None:
    """Entry point of the console script."""
    sys.exit(guarded(app))


if __name__ == "__main__":
    main()
