"""The command that evaluates finished runs under corruptions, occlusion and covered words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperCommand

from benchmark.base.errors import UserError, choose
from benchmark.cli.jobs import conclude, syncing
from benchmark.cli.options import (
    DeviceOption,
    PresetOption,
    RunsArgument,
    Submission,
    ThreadsOption,
    Where,
    console,
    names,
    numbers,
    spread,
)
from benchmark.cli.pictures import app as images_app
from benchmark.cli.report import tell_written

if TYPE_CHECKING:  # Help must not import what runs need.
    from click import Context

    from benchmark.launch.outcomes import Outcome
    from benchmark.robustness.conditions import Condition
    from benchmark.runs.execution import Execution, Places
    from benchmark.runs.rundir import RunDir

app = typer.Typer()
IMAGES = "images"  # the word that makes `robustness` write pictures


class WithImages(TyperCommand):
    """A command of which `images` as its first argument makes another one.

    Its other arguments are any number of runs, beside which click knows no further commands.
    """

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: Any
    ) -> Context:
        """Return the context of the command that the arguments name."""
        if args[:1] == [IMAGES]:
            command = typer.main.get_command(images_app)
            return command.make_context(f"{info_name} {IMAGES}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@app.command(rich_help_panel="Robustness", cls=WithImages)
@spread
def robustness(
    where: Where,
    submission: Submission,
    chosen: RunsArgument = None,
    preset: PresetOption = "quick",
    name: Annotated[
        str | None, typer.Option("--name", help="Plan whose runs are meant (default: the preset).")
    ] = None,
    corruptions: Annotated[
        str | None,
        typer.Option(
            help="Names or sets of names, comma-separated, or none (default: the preset's)."
        ),
    ] = None,
    severities: Annotated[
        str | None,
        typer.Option(help="Severities from 1 to 5, comma-separated (default: the preset's)."),
    ] = None,
    splits: Annotated[
        str | None, typer.Option(help="Splits, comma-separated (default: the preset's).")
    ] = None,
    occlusion: Annotated[bool, typer.Option(help="Also cover parts of the image.")] = True,
    words: Annotated[bool, typer.Option(help="Also cover the words one by one.")] = True,
    conditions: Annotated[
        str | None,
        typer.Option(hidden=True, help="Conditions in place of all these, comma-separated."),
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", hidden=True, help="Work in this process, as a job does.")
    ] = False,
    reference: Annotated[
        str | None, typer.Option(help="Run by whose errors corruption errors are divided.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that corrupt images ahead of the networks.")
    ] = 1,
    threads: ThreadsOption = 1,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps corrupted images, losslessly.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Jobs at a time, which share the runs (default: the preset's)."),
    ] = None,
    report: Annotated[bool, typer.Option(help="Write the report.")] = True,
    device: DeviceOption = "auto",
) -> None:
    """Evaluate finished runs under corruptions, occlusion and covered words.

    `risbench robustness images OUT` writes the corrupted pictures, for networks outside of the
    suite.

    The preset says which runs and which conditions. Options replace some of its conditions. A
    condition that was evaluated before is not evaluated again.

    Example: risbench robustness --preset gpu --splits testA --severities 1,3,5
    """
    from benchmark.planning.preset_check import read_checked
    from benchmark.robustness.conditions import conditions_of, narrow_conditions, parse_condition
    from benchmark.runs.execution import Execution

    plan = name or Path(preset).stem
    planned = read_checked(preset)
    grid = narrow_conditions(
        conditions_of(planned, plan),
        names(splits),
        names(corruptions),
        numbers(severities, "--severities"),
        occlusion,
        words,
    )
    wanted = [parse_condition(name) for name in names(conditions) or []] or grid.conditions()
    places = where.places(reports=submission.out, tracking=submission.uri)
    directories = _named(chosen, where.runs) if chosen else _finished(plan, where.runs)
    if here:
        _work_here(directories, grid.splits, wanted, places, workers, threads, cache, device)
        return
    reference_key = _reference(reference, where.runs, directories)
    on_splits = f"{len(wanted)} conditions on {', '.join(grid.splits)}"
    console.print(f"{len(directories)} runs, {on_splits}")
    work = _with_networks(directories, grid.splits, bool(chosen and wanted))
    # Without conditions the report has language subsets, for which no network runs.
    if wanted and work:
        execution = Execution.of(device=device, threads=threads, workers=workers)
        with syncing(places, submission):
            at_a_time = jobs or planned.jobs
            outcomes = _submit(
                work, grid.splits, wanted, places, execution, submission, at_a_time, cache
            )
        conclude(outcomes, lambda: None)
    if not report:
        return
    _write_report(
        None if chosen else plan,
        grid.splits,
        directories,
        reference_key,
        places,
    )


# --- choosing runs --------------------------------------------------------------------


def _named(chosen: Sequence[str], runs: Path) -> list[RunDir]:
    """Return the runs that a command names, each once.

    Raises:
        UserError: a run is not known, or lies in another folder.
    """
    from benchmark.runs.rundir import find_run

    directories = {run.key: run for run in (find_run(runs, name) for name in chosen)}
    if any(run.path.resolve().parent != runs.resolve() for run in directories.values()):
        raise UserError("name runs of one folder alone, and give this folder with --runs.")
    return [*directories.values()]


def _finished(plan: str, runs: Path) -> list[RunDir]:
    """Return the finished runs of a planned matrix, and print how many are left out.

    Raises:
        UserError: no run of it is finished.
    """
    from benchmark.runs.groups import names as planned
    from benchmark.runs.groups import read_group
    from benchmark.runs.rundir import RunDir

    keys = read_group(runs, plan).keys if plan in planned(runs) else []
    every = [RunDir(runs / key) for key in keys]
    done = [run for run in every if run.status().state == "done"]
    if not done:
        raise UserError(
            f"no run of the plan '{plan}' is finished in {runs}: run `risbench matrix` with the"
            " same --preset and --name first, or name runs."
        )
    if left := len(every) - len(done):
        console.print(
            f"{left} of the {len(every)} runs of the matrix are not finished and are left out"
        )
    return done


def _reference(name: str | None, runs: Path, directories: Sequence[RunDir]) -> str | None:
    """Return the key of the reference run, or None where none is named.

    Raises:
        UserError: the run is not known, or is not among those that are evaluated.
    """
    from benchmark.runs.rundir import find_run

    if name is None:
        return None
    key = find_run(runs, name).key
    if key not in {run.key for run in directories}:
        raise UserError(
            f"the reference run {key} is not among the runs that are evaluated: name it, too."
        )
    return key


def _with_networks(
    directories: Sequence[RunDir], splits: Sequence[str], all_of_them: bool
) -> list[RunDir]:
    """Return the runs whose networks can be evaluated on splits.

    Predictions of a plan stand in its report as far as theirs were scored under conditions.

    Args:
        directories: runs of any kind.
        splits: that are asked for.
        all_of_them: whether each was named, so that none may be left out.

    Raises:
        UserError: a run that was named has no network.
    """
    chosen = []
    for run in directories:
        spec = run.any_spec()
        # A named or trained run that lacks a split is refused where jobs are made.
        is_wanted = all_of_them or run.kind == "trained"
        if spec.has_network and (is_wanted or {*splits} <= {*spec.selection.report}):
            chosen.append(run)
        elif all_of_them:
            run.spec()  # It says that there is no network.
    return chosen


# --- work -----------------------------------------------------------------------------


def _submit(
    directories: Sequence[RunDir],
    splits: Sequence[str],
    conditions: Sequence[Condition],
    places: Places,
    execution: Execution,
    submission: Submission,
    at_a_time: int,
    cache: Path | None,
) -> list[Outcome]:
    """Evaluate runs in jobs, of which each has runs of one data set.

    An image is corrupted once for all runs of a job. Where there are fewer data sets than jobs at a
    time, each data set has several, since networks take far longer than corruptions.
    """
    from benchmark.launch.jobs import robustness_job
    from benchmark.launch.outcomes import work_through

    launcher = submission.started(at_a_time)
    by_data: dict[tuple[str, ...], list[RunDir]] = {}
    for run in directories:
        spec = run.any_spec()
        for split in splits:
            choose(split, spec.selection.report, f"split of run {run.key}")
        by_data.setdefault((spec.dataset, spec.split_by, spec.data_sha256), []).append(run)
    shares = max(1, at_a_time // len(by_data))
    jobs = [
        robustness_job(
            f"{dataset}-{split_by}" + (f"-{share + 1}" if share else ""),
            runs[share::shares],
            conditions,
            splits,
            places,
            execution,
            launcher,
            cache,
        )
        for (dataset, split_by, _), runs in by_data.items()
        for share in range(min(shares, len(runs)))
    ]
    return work_through(launcher, jobs, console, "jobs")


def _work_here(
    directories: Sequence[RunDir],
    splits: Sequence[str],
    conditions: Sequence[Condition],
    places: Places,
    workers: int,
    threads: int,
    cache: Path | None,
    device: str,
) -> None:
    """Evaluate runs in this process, as a job does, and print how fast it was."""
    import torch

    from benchmark.robustness.run import evaluate_conditions
    from benchmark.runs.opened import opened_for

    torch.set_num_threads(threads)
    meters = evaluate_conditions(
        directories,
        splits,
        conditions,
        opened_for(places),
        console,
        workers=workers,
        device=device,
        cache=cache,
    )
    _show_costs(meters)


def _show_costs(meters: dict[str, Any]) -> None:
    """Print the images and expressions per second of what was evaluated now.

    Args:
        meters: run key -> the meter of its network, and "images" -> the meter of the images.
    """
    images = meters.pop("images")
    if not meters:
        console.print("every condition was evaluated before, so no network ran")
        return
    parts = ("decode", "corrupt", "alter", "cache", "prepare")
    rates = [f"{name} {images.rate(name):.0f}" for name in parts if images.counts[name]]
    console.print(f"images/s of one process: {', '.join(rates)}")
    table = Table(box=None)
    table.add_column("run", no_wrap=True)
    for heading in ("encode,\nimages/s", "the rest,\nexpressions/s", "masks,\nexpressions/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for key, meter in meters.items():
        # A method whose `encode_image` returns the image itself (LAVT) takes no time for it.
        encode = meter.rate("encode") if meter.each("encode") > 1e-5 else float("inf")
        rates = (encode, meter.rate("segment"), meter.rate("mask"))
        table.add_row(key, *("none" if rate == float("inf") else f"{rate:.0f}" for rate in rates))
    console.print(table)


# --- report ---------------------------------------------------------------------------


def _write_report(
    plan: str | None,
    splits: Sequence[str],
    directories: Sequence[RunDir],
    reference: str | None,
    places: Places,
) -> None:
    """Write and print the report of all conditions that the runs have by now, and draw strips.

    Args:
        plan: the matrix that the runs are from, which names the report and whose primary metrics
            and margin count. None where runs were named, so that the usual ones do.
        splits: those that were chosen. They are shown also where they have no condition.
        directories: the runs.
        reference: key of the run by whose errors corruption errors are divided, or None.
        places: where the runs lie, and where the report goes.
    """
    from benchmark.robustness import strips
    from benchmark.runs.comparisons import planned_comparisons
    from benchmark.runs.groups import Cell, Group, read_group
    from benchmark.runs.opened import opened_for
    from reports.collected import collect
    from reports.layout import files
    from reports.robustness import report, strip
    from reports.robustness.finished import finished

    cells = [Cell.of(run.any_spec()) for run in directories]
    name = plan or "runs"
    group = Group(name, "preset", cells=cells)
    planned = read_group(places.runs, plan) if plan else group
    group.primary, group.margin = planned.primary, planned.margin
    collected = collect(group, places.runs)
    # The family is what was planned, whatever of it is finished or chosen here.
    family = planned_comparisons(planned, collected.specs)
    its = finished(collected, places.runs, family, splits, reference)
    wanted, without = strip.wanted(its.every, its.table, places.runs)
    opened = opened_for(places)
    drawn = strip.draw([strips.strip(each, places.runs, opened) for each in wanted])
    contents = report.contents(name, its) | {f"strips/{file}": drawn[file] for file in drawn}
    paths = files.write(places.reports / name, contents, owned=(report.FOLDER, "strips"))
    report.render(console, its.every, its.table)
    for what in without:
        console.print(
            f"no strip of pictures of {what}: its runs are from before masks were stored",
            soft_wrap=True,
        )
    tell_written(paths)
