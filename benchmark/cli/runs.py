"""Commands that plan, make and compare runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from benchmark.base.errors import UserError
from benchmark.cli.options import (
    OUT,
    RUNS,
    DataOption,
    DatasetsOption,
    DeviceOption,
    ImagesOption,
    MethodsOption,
    OfflineOption,
    OutOption,
    PresetOption,
    PretrainedOption,
    RunsOption,
    SeedsOption,
    StrategiesOption,
    UriOption,
    VariantsOption,
    console,
    errors,
    names,
    numbers,
)

app = typer.Typer()


def _matrix(
    preset: str,
    methods: str | None,
    strategies: str | None,
    datasets: str | None,
    variants: str | None,
    seeds: str | None,
    data: Path | None,
    images: Path | None,
    recipes: dict[str, dict[str, Any]] | None = None,
) -> Any:
    """Return the resolved matrix of the options that plan, matrix, run and report share."""
    from benchmark.runs.preset import narrow, read_preset
    from benchmark.runs.resolve import resolve_preset

    narrowed = narrow(
        read_preset(preset),
        methods=names(methods),
        strategies=names(strategies),
        datasets=names(datasets),
        variants=names(variants),
        seeds=numbers(seeds),
    )
    if recipes:
        narrowed = narrowed.model_copy(update={"recipes": {**narrowed.recipes, **recipes}})
    with console.status("reading the data"):
        return resolve_preset(Path(preset).stem, narrowed, data, images)


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
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
    measure: Annotated[bool, typer.Option(help="Time one step of each network for the estimate.")] = True,
) -> None:
    """Show what would run: states, steps, parameters and an estimated time from a measured step."""
    from benchmark.planning.plan import show_plan

    found = _matrix(preset, methods, strategies, datasets, variants, seeds, data, images)
    show_plan(found, runs, measure, console)


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
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
) -> None:
    """Run what is not done yet and write the tables; failed runs are reported at the end and do not stop the rest."""
    found = _matrix(preset, methods, strategies, datasets, variants, seeds, data, images)
    jobs = jobs or found.preset.jobs
    work_through(
        found.name,
        "preset",
        found.specs,
        found.place,
        found.execution,
        runs,
        jobs,
        processes,
        sync,
        uri,
        lambda: _write_report(found, runs, out),
    )


def work_through(
    name: str,
    kind: Literal["preset", "study"],
    specs: Sequence[Any],
    place: Any,
    execution: Any,
    runs: Path,
    jobs: int,
    processes: int,
    sync: bool,
    uri: str | None,
    report: Callable[[], None],
) -> None:
    """Run what of `specs` is not done yet and report; name what failed, and exit 130 or 1 where not everything was done."""
    from benchmark.launch import local
    from benchmark.runs import groups
    from benchmark.runs.rundir import RunDir
    from benchmark.tracking import watch

    directories = [RunDir(runs / spec.key) for spec in specs]
    for spec, run in zip(specs, directories, strict=True):
        run.create(spec)
    groups.write_group(runs, name, kind, [spec.key for spec in specs])
    left = [run for run in directories if run.status()["state"] != "done"]
    # Two-pass runs first: the longest ones must not be what everything waits for at the end.
    left.sort(key=lambda run: not run.spec().strategy.distillation)
    console.print(f"{len(directories)} runs in {runs}: {len(directories) - len(left)} done, {len(left)} to do")
    child = watch.start_sync(runs, uri) if sync else None
    outcomes = local.run_all(left, place, execution, jobs, processes, console)
    if child and kind == "preset":
        child.terminate()  # its last pass runs beside the report, which for a study it has to show
    try:
        _conclude(len(directories), len(left), outcomes, report)
    finally:
        end_sync(child, runs)


def end_sync(child: Any, runs: Path) -> None:
    """Let the sync child, if there is one, make its last pass; say where to look if it could not."""
    from benchmark.tracking import watch

    if child and not watch.stop_sync(child):
        errors.print(
            f"MLflow did not take everything (see {runs / 'sync.log'}); nothing is lost: run `risbench sync` later."
        )


def _conclude(wanted: int, asked: int, outcomes: list, report: Callable[[], None]) -> None:
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        errors.print(f"[red]failed[/red] {outcome.key}: {outcome.reason}")
    if any(outcome.state == "stopped" for outcome in outcomes) or len(outcomes) < asked:
        console.print("stopped; the same command goes on from here")
        raise typer.Exit(130)
    if len(failed) < wanted:
        report()
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
    method: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    strategy: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    dataset: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    variant: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    seed: Annotated[int | None, typer.Option(help="[preset's first]")] = None,
    pseudo_masks: Annotated[
        str | None, typer.Option(help="Run whose pseudo masks are the targets (tris_step2).")
    ] = None,
    preset: PresetOption = "quick",
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
) -> None:
    """Train and evaluate one run in this process; started again, it goes on from where it was."""
    from benchmark.runs.preset import read_preset
    from benchmark.runs.rundir import RunDir, find_run
    from benchmark.training import worker

    chosen = read_preset(preset)
    method = method or chosen.methods[0]
    masks = {"pseudo_masks": find_run(runs, pseudo_masks).key} if pseudo_masks else {}
    found = _matrix(
        preset,
        method,
        strategy or chosen.strategies[0],
        dataset or chosen.datasets[0],
        variant or chosen.variants[0],
        str(chosen.seeds[0] if seed is None else seed),
        data,
        images,
        {method: {**chosen.recipes.get(method, {}), **masks}} if masks else None,
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
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
    device: DeviceOption = "auto",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    workers: Annotated[int, typer.Option(min=0)] = 0,
    checkpoint_seconds: Annotated[float, typer.Option(min=0)] = 60.0,
    log_every: Annotated[int, typer.Option(min=1)] = 10,
) -> None:
    """Work on one planned or interrupted run in this process, whatever matrix it belongs to."""
    from benchmark.runs.execution import Execution
    from benchmark.runs.rundir import find_run
    from benchmark.training import worker

    directory = find_run(runs, key)
    place = worker.place_of(directory, data, images)
    worker.work(directory, place, Execution(device, threads, workers, checkpoint_seconds, log_every), console)


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
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
) -> None:
    """Write the comparison tables (Markdown, CSV, LaTeX) of a preset's finished runs and print them."""
    _write_report(_matrix(preset, methods, strategies, datasets, variants, seeds, data, images), runs, out)


def _write_report(found: Any, runs: Path, out: Path) -> None:
    from reports.matrix import tables

    paths = tables.write_report(found.name, found.preset.description, found.specs, runs, out)
    tables.render(console, found.specs, runs)
    for path in paths:
        console.print(f"wrote {path}")


@app.command("runs")
def list_runs(runs: RunsOption = RUNS) -> None:
    """List the run directories and their states."""
    from benchmark.runs.rundir import all_runs

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
