"""The table of what each strategy changes on the seeds that it shares with the reference."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmark.evaluation import metrics
from reports.layout import numbers
from reports.layout.block import Block, named_once
from reports.layout.numbers import NOTHING
from reports.matrix.parts import parts


def blocks(table: pd.DataFrame, strategies: Sequence[str], reference: str) -> list[Block]:
    """Return one block per part, with a line per split, method, judged metric and other strategy.

    Args:
        table: what `compare.comparison` returns.
        strategies: labels of all planned ones.
        reference: label of the one that the others are compared with.
    """
    others = [label for label in strategies if label != reference]
    # With several strategies each line names its own. A single one heads its column.
    several = len(others) > 1
    shown = ("strategy", "with it") if several else (*(others or ("other strategy",)),)
    header = ("split", "method", "metric", reference, *shown)
    header += ("difference [95 %]", "compared", "p", "verdict")
    tables = []
    for title, note, rows in parts(table):
        by_line: dict[tuple[str, str, str], list[Any]] = {}
        for row in rows.itertuples():
            by_line.setdefault((row.split, row.label, row.metric), []).append(row)
        lines = []
        # The metrics of a split and method stand below each other.
        for split, method in dict.fromkeys(name[:2] for name in by_line):
            for metric in (its.name for its in metrics.judged()):
                names = (split, method, numbers.heading(metric))
                own = by_line.get((split, method, metric), [])
                cells = _cells(own, metric, reference, several) if own else []
                lines += [(*names, *line) for line in cells]
        tables.append(Block(title, note, header, named_once(lines)))
    return tables


def _cells(
    rows: Sequence[Any], metric: str, reference: str, several: bool
) -> list[tuple[str, ...]]:
    """Return what follows split, method and metric in each line.

    That is the reference's value, the strategy's name (if there are `several`), its value, the
    difference, what it is a difference between, the p-value after Holm, and the verdict.
    """
    times = numbers.factor(metric)
    lines = []
    if all(math.isnan(row.baseline_mean) for row in rows):
        for row in rows:
            if row.strategy == reference:
                value = numbers.plus_minus(row.mean, row.deviation, times)
                lines.append((value, *[NOTHING] * (6 if several else 5)))
    for row in rows:
        if row.strategy == reference:
            continue
        lines.append(
            (
                numbers.plus_minus(row.baseline_mean, row.baseline_deviation, times),
                *([row.strategy] if several else []),
                numbers.plus_minus(row.mean, row.deviation, times),
                numbers.difference(row.difference, row.difference_low, row.difference_high, times),
                row.compared or NOTHING,
                numbers.p_value(row.p_holm),
                row.verdict or NOTHING,
            )
        )
    return lines
