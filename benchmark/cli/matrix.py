"""Commands that plan and make runs: matrix, run, resume, plan, status."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from benchmark.base.errors import UserError
from benchmark.cli.options import (
    OUT,
    RUNS,
    DataOption,
    DatasetsOption,
    DeviceOption,
    ImagesOption,
    JobsOption,
    LauncherOption,
    MethodsOption,
    OfflineOption,
    OutOption,
    PlanOption,
    PresetOption,
    PretrainedOption,
    RunArgument,
    RunsOption,
    SeedsOption,
    StrategiesOption,
    SyncOption,
    UriOption,
    VariantsOption,
    console,
    errors,
    names,
    numbers,
    places,
)

app = typer.Typer()
PANEL = "Run"


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What the options of a command choose of a preset.

    Attributes:
        name: of the plan. text: of the preset's file. whole: what is planned. now: what of it is to be run.
    """

    name: str
    text: str
    whole: Any
    now: Any


def choose_runs(
    preset: str,
    name: str | None,
    methods: str | None,
    strategies: str | None,
    datasets: str | None,
    variants: str | None,
    seeds: str | None,
) -> Chosen:
    """Return what is planned and what is to be run now.

    Axes choose among planned cells. With `--name` they are the axes of a plan of its own.
    """
    from benchmark.runs.preset import narrow, preset_text, read_preset, replaced

    axes = {
        "methods": names(methods),
        "strategies": names(strategies),
        "datasets": names(datasets),
        "variants": names(variants),
        "seeds": numbers(seeds),
    }
    read, text = read_preset(preset), preset_text(preset)
    if name:
        whole = replaced(read, **axes)
        return Chosen(name, text, whole, whole)
    return Chosen(Path(preset).stem, text, read, narrow(read, **axes))


def resolve(chosen: Chosen, data: Path | None, *where: Any) -> Any:
    """Return the runs that are chosen; embedded data are written where the preset's own folder is meant."""
    from benchmark.runs.resolve import resolve_preset

    there = places(data or chosen.now.data, *where)
    with console.status("reading the data"):
        return resolve_preset(chosen.name, chosen.now, there, write_embedded=data is None)


# --- matrix -----------------------------------------------------------------------------------------


@app.command(rich_help_panel=PANEL)
def matrix(
    preset: PresetOption = "quick",
    name: PlanOption = None,
    methods: MethodsOption = None,
    strategies: StrategiesOption = None,
    datasets: DatasetsOption = None,
    variants: VariantsOption = None,
    seeds: SeedsOption = None,
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    jobs: JobsOption = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes (GPUs) per run [preset's].")
    ] = None,
    launcher: LauncherOption = "local",
    sync: SyncOption = True,
    uri: UriOption = None,
    out: OutOption = OUT,
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
) -> None:
    """Run what is planned and not done yet, then write the tables.

    A failed run is reported at the end and does not stop the others. Example: risbench matrix --preset paper --methods lavt
    """
    from benchmark.runs.groups import write_plan

    chosen = choose_runs(preset, name, methods, strategies, datasets, variants, seeds)
    found = resolve(chosen, data, images, runs, out, uri, pretrained, offline)
    group = write_plan(runs, found.group(chosen.whole, chosen.text))
    execution = found.execution.changed(processes=processes)
    outcomes = work_through(
        (*found.needed, *found.specs),
        found.places,
        execution,
        launcher,
        jobs or chosen.now.jobs,
        sync,
    )
    from benchmark.cli.report import write_group_report

    conclude(outcomes, lambda: write_group_report(group.name, found.places, found.cells))


def work_through(
    specs: Sequence[Any],
    where: Any,
    execution: Any,
    launcher: str,
    at_a_time: int,
    sync: bool,
) -> list[Any]:
    """Run what of `specs` is not done yet, the makers of targets before those that need them, and return the outcomes."""
    from benchmark.launch import LAUNCHERS
    from benchmark.launch.jobs import run_jobs
    from benchmark.launch.outcomes import work_through as work
    from benchmark.runs.rundir import RunDir

    directories = [RunDir(where.runs / spec.key) for spec in specs]
    for spec, run in zip(specs, directories, strict=True):
        run.create(spec)
    started = LAUNCHERS.get(launcher)(slots=at_a_time)
    jobs = run_jobs(directories, where, execution, started)
    left = sum(run.status().state != "done" for run in directories)
    console.print(
        f"{len(directories)} runs in {where.runs}: {len(directories) - left} done, {left} to do"
    )
    with syncing(where, sync):
        return work(started, jobs, console)


class syncing:
    """Project the run directories into the tracking store while a block runs, and once more after it."""

    def __init__(self, where: Any, wanted: bool) -> None:
        self.where, self.wanted = where, wanted

    def __enter__(self) -> None:
        from benchmark.tracking import watch

        self.child = watch.start(self.where.runs, self.where.tracking) if self.wanted else None

    def __exit__(self, *_: object) -> None:
        from benchmark.tracking import watch

        if self.child and not watch.stop(self.child):
            log = self.where.runs / "sync.log"
            errors.print(
                f"MLflow did not take everything (see {log}); nothing is lost: run `risbench sync` later."
            )


def conclude(outcomes: Sequence[Any], report: Any) -> None:
    """Name what failed, report what is there, and exit 130 or 1 where not everything was done."""
    failed = [outcome for outcome in outcomes if outcome.state in ("failed", "not started")]
    for outcome in failed:
        line = Text.assemble((outcome.state, "red"), f" {outcome.name}: {outcome.reason}")
        errors.print(line, soft_wrap=True)
    if any(outcome.state == "stopped" for outcome in outcomes):
        console.print("stopped; the same command goes on from here")
        raise typer.Exit(130)
    if not outcomes or len(failed) < len(outcomes):
        report()
    if failed:
        raise typer.Exit(1)


# --- one run ----------------------------------------------------------------------------------------


@app.command(rich_help_panel=PANEL)
def run(
    method: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    strategy: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    dataset: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    variant: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    seed: Annotated[int | None, typer.Option(help="[preset's first]")] = None,
    pseudo_masks: Annotated[
        str | None,
        typer.Option(
            help="Run whose pseudo masks are the targets, in place of one that is made for it."
        ),
    ] = None,
    preset: PresetOption = "quick",
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
) -> None:
    """Train and evaluate one run in this process; started again, it goes on from where it was.

    Example: risbench run --method lavt --strategy maskris --seed 1
    """
    from benchmark.runs.preset import read_preset, replaced
    from benchmark.runs.rundir import RunDir, find_run
    from benchmark.training import worker

    read = read_preset(preset)
    one = replaced(
        read,
        methods=[method or read.methods[0]],
        strategies=[strategy or read.strategies[0]],
        datasets=[dataset or read.datasets[0]],
        variants=[variant or read.variants[0]],
        seeds=[read.seeds[0] if seed is None else seed],
    )
    if pseudo_masks:
        recipe = {
            **one.recipes.get(one.methods[0], {}),
            "pseudo_masks": find_run(runs, pseudo_masks).key,
        }
        one = one.model_copy(update={"recipes": {**one.recipes, one.methods[0]: recipe}})
    found = resolve(Chosen("run", "", one, one), data, images, runs, OUT, None, pretrained, offline)
    if missing := [
        spec.key for spec in found.needed if not (runs / spec.key / "pseudo.json").exists()
    ]:
        raise UserError(
            f"this run is trained on the pseudo masks of {missing[0]}, which are not there: `risbench matrix` makes them first,"
            " or name another run with --pseudo-masks."
        )
    directory = RunDir(runs / found.specs[0].key)
    directory.create(found.specs[0])
    worker.work(directory, found.opened, found.execution, console)


@app.command(rich_help_panel=PANEL)
def resume(
    key: RunArgument,
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
    device: DeviceOption = "auto",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Started by torchrun.")] = 1,
    workers: Annotated[int, typer.Option(min=0)] = 0,
    checkpoint_seconds: Annotated[float, typer.Option(min=0)] = 60.0,
    log_every: Annotated[int, typer.Option(min=1)] = 10,
) -> None:
    """Work on one planned or interrupted run in this process, whatever plan it belongs to.

    Example: risbench resume lavt-tiny-maskris
    """
    from benchmark.runs.execution import Execution
    from benchmark.runs.resolve import Opened
    from benchmark.runs.rundir import find_run
    from benchmark.training import worker

    directory = find_run(runs, key)
    execution = Execution.of(
        device=device,
        threads=threads,
        processes=processes,
        workers=workers,
        checkpoint_seconds=checkpoint_seconds,
        log_every=log_every,
    )
    where = worker.places_of(directory, places(data, images, runs, OUT, None, pretrained, offline))
    worker.work(directory, Opened(where), execution, console)


# --- looking ----------------------------------------------------------------------------------------


@app.command(rich_help_panel=PANEL)
def plan(
    preset: PresetOption = "quick",
    name: PlanOption = None,
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
    measure: Annotated[bool, typer.Option(help="Build each network and time a step of it.")] = True,
) -> None:
    """Show what would run: states, steps, parameters and a time estimated from a measured step.

    Example: risbench plan --preset paper --no-measure
    """
    from benchmark.planning import plan as planning

    chosen = choose_runs(preset, name, methods, strategies, datasets, variants, seeds)
    found = resolve(chosen, data, images, runs, OUT, None, pretrained, offline)
    with console.status("measuring a step of each network") as status:
        planned = planning.plan(found, measure, lambda what: status.update(f"measuring {what}"))
    console.print(_plan_table(planned, measure))
    if needed := len(found.needed):
        console.print(
            f"The first {needed} {'makes' if needed == 1 else 'make'} the targets that others are trained on."
        )
    at_a_time = chosen.now.jobs
    if measure and (seconds := planning.total_seconds(planned, at_a_time)) is not None:
        time = planning.duration(seconds)
        console.print(
            f"about {time} of training at {at_a_time} runs at a time, evaluation not counted"
        )


def _plan_table(planned: Sequence[Any], measure: bool) -> Table:
    from benchmark.planning.plan import duration

    table = Table("run", "state", "steps", box=None)
    for heading in ("parameters", "s/step", "training left") if measure else ():
        table.add_column(heading, justify="right")
    for its in planned:
        cells = [its.spec.key, its.status.state, f"{its.status.step}/{its.steps}"]
        if measure:
            seconds = its.measured.seconds
            cells.append(f"{its.measured.parameters / 1e6:.2f} M")
            cells.append("-" if seconds is None else f"{seconds:.3f}")
            cells.append("-" if its.seconds_left is None else duration(its.seconds_left))
        table.add_row(*cells)
    return table


@app.command(rich_help_panel=PANEL)
def status(
    plan: Annotated[
        str | None, typer.Argument(help="A planned preset or study [all runs].")
    ] = None,
    runs: RunsOption = RUNS,
) -> None:
    """List runs and how far they are; with a name, every planned cell of that preset or study.

    Example: risbench status quick
    """
    from benchmark.runs.groups import read_group
    from benchmark.runs.rundir import RunDir, all_runs

    if plan:
        group = read_group(runs, plan)
        rows = [(cell.key or _cell_name(cell), cell.key) for cell in group.cells]
        rows += [(f"{key} (makes targets)", key) for key in group.needed if key not in group.keys]
    else:
        rows = [(run.key, run.key) for run in all_runs(runs)]
    if not rows:
        raise UserError(
            f"there are no runs in {runs}; start some with `risbench matrix --preset quick`."
        )
    table = Table("run", "state", "step", "best on val, %", "note", box=None)
    for name, key in rows:
        there = bool(key) and (runs / key / "spec.yaml").exists()
        table.add_row(*_status_cells(name, RunDir(runs / key).status() if there else None))
    console.print(table)


def _cell_name(cell: Any) -> str:
    return f"{cell.method} {cell.variant} {cell.strategy} {cell.dataset} seed {cell.seed}"


def _status_cells(name: str, its: Any) -> list[Any]:
    if its is None:
        return [name, "planned", "", "", "not started yet"]
    best = "" if its.best is None or its.best < 0 else f"{100 * its.best:.2f}"
    # A reason is somebody's text and no markup.
    return [name, its.state, f"{its.step}/{its.steps or '?'}", best, Text(its.reason)]
