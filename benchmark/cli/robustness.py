"""The command that evaluates finished runs under corruptions, occlusion and covered words."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmark.base.errors import UserError, choose
from benchmark.cli.matrix import conclude, syncing
from benchmark.cli.options import (
    OUT,
    RUNS,
    DataOption,
    DeviceOption,
    ImagesOption,
    LauncherOption,
    OfflineOption,
    OutOption,
    PretrainedOption,
    RunsArgument,
    RunsOption,
    SyncOption,
    UriOption,
    console,
    names,
    numbers,
    places,
)
from benchmark.cli.report import tell_written

app = typer.Typer()


@app.command(rich_help_panel="Robustness")
def robustness(
    chosen: RunsArgument = None,
    preset: Annotated[
        str, typer.Option("--preset", help="quick, common, all, or a YAML file of conditions.")
    ] = "quick",
    corruptions: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated names; common (15), maskris (17), all; none. [preset's]"
        ),
    ] = None,
    severities: Annotated[
        str | None, typer.Option(help="Comma-separated, 1 to 5. [preset's]")
    ] = None,
    splits: Annotated[str | None, typer.Option(help="Comma-separated. [preset's]")] = None,
    occlusion: Annotated[bool, typer.Option(help="Also the preset's occlusion.")] = True,
    words: Annotated[bool, typer.Option(help="Also with words covered one by one.")] = True,
    conditions: Annotated[
        str | None,
        typer.Option(hidden=True, help="Comma-separated conditions in place of all these."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Run whose errors corruption errors are divided by.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that corrupt images ahead of the networks.")
    ] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a network on a CPU.")] = 1,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps corrupted images, losslessly.")
    ] = None,
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    out: OutOption = OUT,
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
    launcher: LauncherOption = "local",
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Groups of runs at a time, one group a data set.")
    ] = 1,
    sync: SyncOption = True,
    uri: UriOption = None,
    report: Annotated[bool, typer.Option(help="Write the report.")] = True,
    device: DeviceOption = "auto",
) -> None:
    """Evaluate finished runs under corruptions, occlusion and covered words, each condition once.

    Example: risbench robustness --preset common --splits testA
    """
    from benchmark.robustness.conditions import (
        narrow_robustness,
        parse_condition,
        read_robustness_preset,
    )
    from benchmark.runs.execution import Execution

    asked = narrow_robustness(
        read_robustness_preset(preset),
        names(splits),
        names(corruptions),
        numbers(severities, "--severities"),
        occlusion,
        words,
    )
    wanted = [parse_condition(name) for name in names(conditions) or []] or asked.conditions()
    where = places(data, images, runs, out, uri, pretrained, offline)
    directories = _named(chosen, runs) if chosen else _finished(asked.matrix, runs)
    if not report:  # a job that a launcher started: it works in this process
        _work_here(directories, asked.splits, wanted, where, workers, threads, cache, device)
        return
    declared = _reference(reference, runs, directories)
    console.print(f"{len(directories)} runs, {len(wanted)} conditions on {', '.join(asked.splits)}")
    if wanted:  # language subsets are those of records that are there
        execution = Execution.of(device=device, threads=threads, workers=workers)
        with syncing(where, sync):
            outcomes = _submit(
                directories, asked.splits, wanted, where, execution, launcher, jobs, cache
            )
        conclude(outcomes, lambda: None)
    name = "runs" if chosen else Path(preset).stem
    unchanged = asked == read_robustness_preset(preset) and not chosen and not conditions
    said = f"{len(wanted)} conditions on {', '.join(asked.splits)} of {len(directories)} runs"
    _write_report(
        name,
        asked.description if unchanged else said,
        asked.splits,
        wanted,
        directories,
        declared,
        where,
        device,
    )


# --- which runs -------------------------------------------------------------------------------------


def _named(chosen: Sequence[str], runs: Path) -> list[Any]:
    """Return the named runs."""
    from benchmark.runs.rundir import find_run

    directories = {run.key: run for run in (find_run(runs, name) for name in chosen)}
    if any(run.path.resolve().parent != runs.resolve() for run in directories.values()):
        raise UserError("name runs of one folder and give that with --runs.")
    return [*directories.values()]


def _finished(plan: str, runs: Path) -> list[Any]:
    """Return the finished runs of a planned matrix."""
    from benchmark.runs.groups import names as planned
    from benchmark.runs.groups import read_group
    from benchmark.runs.rundir import RunDir

    plan = Path(plan).stem if plan.endswith((".yaml", ".yml")) else plan
    every = (
        [RunDir(runs / key) for key in read_group(runs, plan).keys] if plan in planned(runs) else []
    )
    done = [run for run in every if run.status().state == "done"]
    if not done:
        raise UserError(
            f"no run of the matrix '{plan}' is finished in {runs}: run `risbench matrix --preset {plan}` first, or name runs."
        )
    if left := len(every) - len(done):
        console.print(
            f"{left} of the {len(every)} runs of the matrix are not finished and are left out"
        )
    return done


def _reference(name: str | None, runs: Path, directories: Sequence[Any]) -> str | None:
    """Return the key of the declared reference, which is one of the runs."""
    from benchmark.runs.rundir import find_run

    if name is None:
        return None
    key = find_run(runs, name).key
    if key not in {run.key for run in directories}:
        raise UserError(
            f"the reference run {key} is not among the runs that are evaluated; name it, too."
        )
    return key


def opened_for(where: Any) -> Callable[[Any], Any]:
    """Return what gives a run's data; runs whose data lie in the same place share them."""
    from benchmark.runs.resolve import Opened
    from benchmark.training.worker import places_of

    found: dict[Any, Any] = {}

    def opened(run: Any) -> Any:
        there = places_of(run, where)
        if there not in found:
            found[there] = Opened(there)
        return found[there]

    return opened


# --- work -------------------------------------------------------------------------------------------


def _submit(
    directories: Sequence[Any],
    splits: Sequence[str],
    conditions: Sequence[Any],
    where: Any,
    execution: Any,
    launcher: str,
    at_a_time: int,
    cache: Path | None,
) -> list[Any]:
    """Evaluate runs in jobs, one for each data set, so that an image is corrupted once for all of its runs."""
    from benchmark.launch import LAUNCHERS
    from benchmark.launch.jobs import robustness_job
    from benchmark.launch.outcomes import work_through

    started = LAUNCHERS.get(launcher)(slots=at_a_time)
    by_data: dict[tuple[str, ...], list[Any]] = {}
    for run in directories:
        spec = run.spec()
        for split in splits:
            choose(split, spec.selection.report, f"split of run {run.key}")
        by_data.setdefault((spec.dataset, spec.split_by, spec.data_sha256), []).append(run)
    jobs = [
        robustness_job(
            f"{dataset}-{split_by}", runs, conditions, splits, where, execution, started, cache
        )
        for (dataset, split_by, _), runs in by_data.items()
    ]
    return work_through(started, jobs, console, "data sets")


def _work_here(
    directories: Sequence[Any],
    splits: Sequence[str],
    conditions: Sequence[Any],
    where: Any,
    workers: int,
    threads: int,
    cache: Path | None,
    device: str,
) -> None:
    import torch

    from benchmark.robustness.run import evaluate_conditions

    torch.set_num_threads(threads)
    meters = evaluate_conditions(
        directories,
        splits,
        conditions,
        opened_for(where),
        console,
        workers=workers,
        device=device,
        cache=cache,
    )
    _show_costs(meters)


def _show_costs(meters: dict[str, Any]) -> None:
    """Print images and expressions per second of what was done now."""
    made = meters.pop("images")
    if not meters:
        console.print("every condition was evaluated before; no network ran")
        return
    parts = ("decode", "corrupt", "alter", "cache", "prepare")
    rates = [f"{name} {made.rate(name):.0f}" for name in parts if made.counts[name]]
    console.print(f"images/s of one process: {', '.join(rates)}")
    table = Table(box=None)
    table.add_column("run", no_wrap=True)
    for heading in ("encode,\nimages/s", "the rest,\nexpressions/s", "masks,\nexpressions/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for key, its in meters.items():
        # A method that returns the image itself (LAVT) has no text-free part to speak of.
        encode = its.rate("encode") if its.each("encode") > 1e-5 else float("inf")
        rates = (encode, its.rate("segment"), its.rate("mask"))
        table.add_row(key, *("none" if rate == float("inf") else f"{rate:.0f}" for rate in rates))
    console.print(table)


# --- report -----------------------------------------------------------------------------------------


def _write_report(
    name: str,
    description: str,
    splits: Sequence[str],
    conditions: Sequence[Any],
    directories: Sequence[Any],
    reference: str | None,
    where: Any,
    device: str,
) -> None:
    """Write and print the report, the strips of pictures last, since networks run for them."""
    from benchmark.robustness import strips
    from benchmark.runs.groups import Cell, Group
    from reports.collected import collect
    from reports.layout import files
    from reports.robustness import report, strip
    from reports.robustness.results import gather
    from reports.robustness.table import table as numbers_of

    cells = [Cell.of(run.spec()) for run in directories]
    collected = collect(Group(name, "preset", description, cells=cells), where.runs)
    every = gather(collected, where.runs, splits, conditions)
    table = numbers_of(every, reference)
    folder = report.folder(name, where.reports)
    for path in folder.glob("*.*"):  # of an earlier report, perhaps on other runs
        path.unlink()
    paths = report.write(name, description, every, table, reference, where.reports)
    shown = strips.compute(
        strip.wanted(every, table, where.runs), where.runs, opened_for(where), device
    )
    paths += files.write(folder, strip.draw(shown))
    report.render(console, every, table)
    tell_written(paths)
