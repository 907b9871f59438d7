"""The command that writes the report of a plan again, from the run directories alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark import strategies
from benchmark.base.errors import choose
from benchmark.cli.options import (
    CLAIMS,
    OUT,
    RUNS,
    Axes,
    OutOption,
    RunsOption,
    console,
    named,
    spread,
)
from benchmark.data import datasets
from benchmark.runs.execution import Places

if TYPE_CHECKING:  # Help must not import what runs need.
    from benchmark.runs.groups import Cell, Group
    from reports.collected import Collected

app = typer.Typer()


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
    runs: RunsOption = RUNS,
    out: OutOption = OUT,
) -> None:
    """Write the tables and figures of a plan's finished runs and print them.

    The command needs no data and no weights.

    Example: risbench report quick --seeds 0
    """
    from benchmark.runs.groups import plan_name, read_group

    plan = plan_name(plan)
    group = read_group(runs, plan)
    if group.kind == "study":
        from benchmark.cli.study import write_study_report
        from studies import study

        write_study_report(study.load(runs, plan), runs, None, out)
        return
    places = Places(None, runs=runs, reports=out)
    write_group_report(group, places, _chosen(group, axes), against)


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
    group: Group, places: Places, cells: Sequence[Cell], against: str | None = None
) -> None:
    """Write and print the report of a preset's plan.

    Args:
        group: the plan.
        places: where the runs lie, and where the report goes.
        cells: the cells that the report is about. Their keys are read from the plan.
        against: name of the strategy that the others are compared with [the reference].
    """
    from reports import compare
    from reports.collected import collect
    from reports.matrix import report as matrix_report

    wanted = {cell.identity for cell in cells}
    current = [cell for cell in group.cells if cell.identity in wanted]
    collected = collect(group, places.runs, current)
    table = compare.comparison(collected, against)
    report = matrix_report.made(collected, table, against)
    paths = matrix_report.write(report, places.reports)
    matrix_report.render(console, report)
    paths += write_claims(places.runs, paths[0].parent, collected)
    tell_written(paths)


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

    also = os.environ.get(CLAIMS)
    its = answered(read_claims(Path(also) if also else None), runs, collected.runs)
    console.print(report.counts(its))
    contents = {"claims.md": report.as_markdown(its), "claims.csv": files.csv(its.table)}
    return files.write(folder, contents)


def tell_written(paths: Sequence[Path]) -> None:
    """Print the paths of a report's files, without the other formats that stand beside each."""
    for path in paths:
        if path.suffix not in (".pdf", ".svg"):
            console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
