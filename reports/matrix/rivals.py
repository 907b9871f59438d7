"""The tables of strategies that a plan compares with each other, beside the reference."""

import pandas as pd

from benchmark.evaluation import metrics
from benchmark.runs.comparisons import planned_rivals
from reports import labels
from reports.collected import Collected
from reports.compare import comparison
from reports.layout import numbers
from reports.layout.block import Block, named_once
from reports.layout.numbers import NOTHING
from reports.matrix.parts import parts
from reports.verdicts import with_verdicts

HEADER = ("split", "method", "metric", "strategy", "with it", "against", "with that")
HEADER += ("difference [95 %]", "compared", "p", "verdict")


def comparisons(collected: Collected) -> pd.DataFrame:
    """Return one row per pair of rivals and what `compare.comparison` has rows for.

    The columns are those of `compare.comparison` and `against`, the label of the other rival.
    Verdicts count the comparisons between rivals alone, as a family of their own.

    Raises:
        UserError: runs that are to be compared are not about the same expressions.
    """
    names = {
        label: strategy.name for label, strategy in labels.strategy_labels(collected.specs).items()
    }
    tables = []
    for strategy, other in collected.group.rivals:
        if not {strategy, other} <= {*names.values()}:
            continue  # No run of one of them has begun.
        table = comparison(collected, other)
        rows = table[(table["strategy"].map(names) == strategy) & table["difference"].notna()]
        tables.append(rows.assign(against=labels.reference(collected.specs, other)))
    tables = [table for table in tables if not table.empty]
    if not tables:
        return pd.DataFrame()
    family = len(planned_rivals(collected.group, collected.specs))
    return with_verdicts(pd.concat(tables, ignore_index=True), collected.group, family)


def blocks(collected: Collected) -> list[Block]:
    """Return one block per part, with a line per split, method, judged metric and pair of rivals.

    There is none where the plan has no rivals, or nothing of them is finished.
    """
    table = comparisons(collected)
    if table.empty:
        return []
    made = []
    for title, note, rows in parts(table):
        lines = []
        judged = [metric.name for metric in metrics.judged()]
        rows = rows[rows["metric"].isin(judged)]
        rows = rows.assign(order=rows["metric"].map(judged.index))
        for _, own in rows.groupby(["split", "label", "order"], sort=False):
            lines += [_line(row) for row in own.itertuples()]
        made.append(Block(f"Rivals on {title}", note, HEADER, named_once(_sorted(lines))))
    return made


def notes(collected: Collected) -> list[str]:
    """Return how the verdicts between rivals come about."""
    if not collected.group.rivals:
        return []
    family = len(planned_rivals(collected.group, collected.specs))
    return [
        f"Rivals are compared with each other, and their verdicts count all {family} planned"
        " comparisons between rivals as a family of their own."
    ]


def _line(row: object) -> tuple[str, ...]:
    times = numbers.factor(row.metric)
    return (
        row.split,
        row.label,
        numbers.heading(row.metric),
        row.strategy,
        numbers.plus_minus(row.mean, row.deviation, times),
        row.against,
        numbers.plus_minus(row.baseline_mean, row.baseline_deviation, times),
        numbers.difference(row.difference, row.difference_low, row.difference_high, times),
        row.compared or NOTHING,
        numbers.p_value(row.p_holm),
        row.verdict or NOTHING,
    )


def _sorted(lines: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the lines with those of one split and method, and then metric, below each other."""
    places: dict[tuple[str, ...], int] = {}
    for line in lines:
        for depth in (1, 2, 3):
            places.setdefault(line[:depth], len(places))
    return sorted(lines, key=lambda line: [places[line[:depth]] for depth in (1, 2, 3)])
