"""The runs of a plan in the layout of a paper's table, whatever their data and variant are.

Small networks on the embedded data stand in the rows of the paper, too. They answer none of its
claims, so no published number stands beside them.
"""

from typing import Any

import pandas as pd

import methods
from benchmark import strategies
from benchmark.runs.predictions import PredictionsSpec
from reports import labels
from reports.claims.paper import Paper, Row, Table
from reports.collected import Collected
from reports.layout import numbers
from reports.layout.block import Block
from reports.paper.cells import Cell

NOT_PLANNED = "not planned"
NOTE = (
    "These runs have other data, networks or recipes than the paper's, so they answer none of its"
    " claims."
)


Place = tuple[str, str, str, str]
"""Data set, way of splitting, variant and supervision."""
Lines = dict[tuple[str, str, str], dict[str, Any]]
"""Method, strategy and split -> row of the comparison, in the judged metric."""


def compared(collected: Collected, table: pd.DataFrame) -> dict[Place, Lines]:
    """Return the rows that may stand in a paper's table.

    Args:
        collected: the runs of a plan.
        table: what `compare.comparison` returns of them.
    """
    judged = table[table["metric"] == table["supervision"].map(collected.group.primary)]
    trained = [spec for spec in collected.specs if not isinstance(spec, PredictionsSpec)]
    known = labels.strategy_labels(trained).values()
    # A row of a paper is of the strategy as it is published, whose label says no setting.
    names = {strategies.get(its.name).heading: its.name for its in known}
    found: dict[Place, Lines] = {}
    for row in judged.to_dict("records"):
        if row["strategy"] in names and not row["settings"]:
            place = (row["dataset"], row["split_by"], row["variant"], row["supervision"])
            its = (row["method"], names[row["strategy"]], row["split"])
            found.setdefault(place, {})[its] = row
    return found


def block(
    paper: Paper, table: Table, place: Place, lines: Lines, collected: Collected
) -> Block | None:
    """Return a table of a paper with the runs of a plan in its rows.

    Returns:
        None where the table compares nothing that the plan does.
    """
    dataset, split_by, variant, supervision = place
    rows = [row for row in table.rows if not (row.settings or row.recipe or row.trained_on)]
    by_label = {row.label: row for row in rows}
    there = {key[:2] for key in lines}
    if not any(
        _key(row) in there and row.against in by_label and _key(by_label[row.against]) in there
        for row in rows
    ):
        return None
    splits = list(dict.fromkeys(split for _, _, split in lines))
    metric = collected.group.primary[supervision]
    shown, bold = [], set()
    # The rows of a paper name its variants, and two of them may be one row of other networks.
    for row in {_key(row): row for row in rows}.values():
        weak = methods.definition(row.method).weakly_supervised
        if weak != (supervision == "weak"):
            continue
        state = _state(collected, row, dataset, split_by, variant)
        cells = []
        for column, split in enumerate(splits, 1):
            cell = _cell(lines.get((*_key(row), split)), metric, state)
            cells.append(cell.ours)
            if cell.is_bold:
                bold.add((len(shown), column))
        strategy = strategies.get(row.strategy) if row.strategy else None
        shown.append((f"{row.method} {strategy.heading}" if strategy else row.method, *cells))
    weakly = ", weakly supervised" if supervision == "weak" else ""
    title = f"In the layout of {paper.paper}, {table.place}: {variant} on {dataset} ({split_by})"
    return Block(
        f"{title}, {numbers.heading(metric)}{weakly}",
        NOTE,
        ("row", *splits),
        shown,
        names=1,
        bold=frozenset(bold),
    )


def _key(row: Row) -> tuple[str, str]:
    return row.method, row.strategy or strategies.reference().name


def _cell(line: dict[str, Any] | None, metric: str, state: str) -> Cell:
    times = numbers.factor(metric)
    if line is None:
        return Cell(times, why=state)
    verdict = line["verdict"]
    return Cell(times, line["mean"], line["half_width"], len(line["seeds"]), verdict)


def _state(collected: Collected, row: Row, dataset: str, split_by: str, variant: str) -> str:
    """Return how far the planned runs of a row are, where none of them is finished."""
    method, strategy = _key(row)
    wanted = (method, variant, strategy, dataset, split_by)
    planned = [
        its
        for its in collected.planned
        if wanted
        == (
            its.cell.method,
            its.cell.variant,
            its.cell.strategy,
            its.cell.dataset,
            its.cell.split_by,
        )
    ]
    return planned[0].words if planned else NOT_PLANNED
