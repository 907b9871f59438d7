"""The command that writes the report of a plan again, from the run directories alone."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark import strategies
from benchmark.base.errors import UserError, choose
from benchmark.cli.options import (
    CLAIMS,
    OUT,
    RUNS,
    Axes,
    OutOption,
    UriOption,
    console,
    named,
    names,
    spread,
    without_password,
)
from benchmark.data import datasets
from benchmark.runs.execution import Places

if TYPE_CHECKING:  # Help must not import what runs need.
    from benchmark.runs.groups import Cell, Group
    from reports.collected import Collected, Planned

app = typer.Typer()
WATCH_SECONDS = 5
# States after which a run is started again by hand alone.
ENDED = ("done", "failed", "damaged", "pruned")


@app.command(rich_help_panel="Report")
@spread
def report(
    axes: Axes,
    plan: Annotated[
        str, typer.Argument(help="A planned preset or study (see `risbench status`).")
    ] = "quick",
    against: Annotated[
        str | None,
        named(
            "--against",
            strategies.names,
            "Strategy that the others are compared with (default: the reference).",
        ),
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--runs",
            envvar="RISBENCH_RUNS",
            help="Folder of the run directories. It may be given several times, say for several"
            " machines. [default: runs]",
        ),
    ] = None,
    from_mlflow: Annotated[
        str | None,
        typer.Option(
            "--from-mlflow",
            envvar="RISBENCH_FROM_MLFLOW",
            callback=without_password,
            help="Tracking address to read from in place of folders.",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Parts to write, comma-separated, such as table,table2,index."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write the report anew whenever a run gets further.")
    ] = False,
    uri: UriOption = None,
    out: OutOption = OUT,
) -> None:
    """Write the tables, figures and the page of a plan's finished runs, and print the table.

    The command needs no data and no weights.

    Example: risbench report quick --seeds 0
    """
    from benchmark.runs.joined import joined
    from benchmark.tracking import DEFAULT, TRACKERS

    if from_mlflow and watch:
        raise UserError("--from-mlflow reads the store once: leave --watch out.")
    with contextlib.ExitStack() as stack:
        folders = runs or [RUNS]
        if from_mlflow:
            folders = [stack.enter_context(TRACKERS.get(DEFAULT).fetched(from_mlflow))]
        folder = stack.enter_context(joined(folders))
        places = Places(None, runs=folder, reports=out, tracking=uri)
        if watch:
            _watched(plan, places, axes, against, names(only))
        else:
            _write(plan, places, axes, against, names(only))


def _write(
    plan: str, places: Places, axes: Axes, against: str | None, only: list[str] | None
) -> list[Planned]:
    """Write the report of a preset or study, and return the runs that are not finished."""
    from benchmark.runs.groups import plan_name, read_group

    name = plan_name(plan)
    group = read_group(places.runs, name)
    if group.kind == "study":
        from benchmark.cli.study import write_study_report
        from studies import study

        write_study_report(study.load(places.runs, name), places.runs, None, places.reports)
        return []
    return write_group_report(group, places, _chosen(group, axes), against, only)


def _watched(
    plan: str, places: Places, axes: Axes, against: str | None, only: list[str] | None
) -> None:
    """Write a report whenever a run of its plan gets further, until all are finished."""
    from benchmark.base.errors import Interrupted
    from benchmark.runs.groups import plan_name, read_group
    from benchmark.runs.rundir import RunDir

    def states() -> list[tuple[str, int]]:
        cells = _chosen(read_group(places.runs, plan_name(plan)), axes)
        every = [RunDir(places.runs / cell.key).status() for cell in cells if cell.key]
        return [(status.state, status.epoch) for status in every]

    seen: list[tuple[str, int]] = []
    try:
        while True:
            now = states()
            if now == seen:
                time.sleep(WATCH_SECONDS)
                continue
            seen = now
            if any(state == "done" for state, _ in now):
                _write(plan, places, axes, against, only)
            else:
                console.print("no run of the plan is finished yet: waiting for the first one")
            if now and all(state in ENDED for state, _ in now):
                return
    except KeyboardInterrupt:
        raise Interrupted("stopped: the report stays as it was written last") from None


def _chosen(group: Group, axes: Axes) -> list[Cell]:
    """Return the cells of a plan that the axes choose.

    Raises:
        UserError: no cell has a value on its axis. The message lists the nearest values.
    """
    wanted = {axis: list(map(str, values or ())) for axis, values in axes.values().items()}
    wanted["datasets"] = [":".join(datasets.parse(entry)) for entry in wanted["datasets"]]
    for axis, values in wanted.items():
        for value in values:
            choose(value, {cell.axes[axis] for cell in group.cells}, f"'{group.name}': {axis}")
    return [
        cell
        for cell in group.cells
        if all(cell.axes[axis] in values for axis, values in wanted.items() if values)
    ]


def write_group_report(
    group: Group,
    places: Places,
    cells: Sequence[Cell],
    against: str | None = None,
    only: list[str] | None = None,
) -> list[Planned]:
    """Write and print the report of a preset's plan.

    Args:
        group: the plan.
        places: where the runs lie, and where the report goes.
        cells: the cells that the report is about. Their keys are read from the plan.
        against: name of the strategy that the others are compared with [the reference].
        only: names of the parts to write [all].

    Returns:
        The planned runs that are not finished.
    """
    from reports import compare
    from reports.claims import report as claims_report
    from reports.collected import collect
    from reports.matrix import report as matrix_report
    from reports.parts import PlanReport

    wanted = {cell.identity for cell in cells}
    current = [cell for cell in group.cells if cell.identity in wanted]
    collected = collect(group, places.runs, current)
    table = compare.comparison(collected, against)
    report = PlanReport(collected, table, places.runs, against, claims_folder(), places.tracking)
    paths = report.write(places.reports, only)
    matrix_report.render(console, report.matrix)
    if only is None and not against:
        console.print(claims_report.counts(report.answered))
    tell_written(paths)
    return collected.unfinished


def claims_folder() -> Path | None:
    """Return the folder with further claims that the environment names, or None."""
    also = os.environ.get(CLAIMS)
    return Path(also) if also else None


def write_claims(runs: Path, folder: Path, collected: Collected) -> list[Path]:
    """Write what the finished runs say to the claims of papers beside a report, and count it.

    Args:
        runs: folder of the run directories. A claim takes them whatever plan they are of.
        folder: of the report.
        collected: runs that are read already.

    Returns:
        The paths of `claims.md` and `claims.csv`.
    """
    from reports.claims import report
    from reports.claims.claims import read_claims
    from reports.claims.table import answered
    from reports.layout import files

    its = answered(read_claims(claims_folder()), runs, collected.runs)
    console.print(report.counts(its))
    return files.write(folder, report.contents(its))


def tell_written(paths: Sequence[Path]) -> None:
    """Print where a report's files lie, without the other formats that stand beside each.

    A folder in which several files lie is named in place of them. The page, if there is one, comes
    last.
    """
    shown = [path for path in paths if path.suffix not in (".pdf", ".svg", ".tex")]
    top = min((path.parent for path in shown), key=lambda path: len(path.parts), default=None)
    named = dict.fromkeys(path if path.parent == top else path.parent for path in shown)
    for path in sorted(named, key=lambda path: path.name == "index.html"):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
