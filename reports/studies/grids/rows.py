"""The tables of a grid's rows, one per metric and split, with the paper's numbers if it has any."""

from typing import Any

import numpy as np

from reports.compare import CHECKPOINTS
from reports.layout import numbers
from reports.layout.block import Block
from reports.layout.numbers import NOTHING
from reports.studies.grids.results import Results


def block(results: Results, split: str, metric: str) -> Block:
    """Return one metric on one split, with a line per row of the grid."""
    lines = results.lines(split, metric)
    times = numbers.factor(metric)
    header = ["row", "seeds", f"{numbers.heading(metric)} [95 %]", "difference [95 %]"]
    # If every row has one seed, that is said once under the table and not in every line.
    several = any(line.compared not in ("", CHECKPOINTS) for line in lines)
    is_judged = metric == results.judged and several
    header += ["compared"] if is_judged else []
    has_published = any(not np.isnan(line.published) for line in lines)
    header += ["published", "published\ndifference"] if has_published else []
    texts = []
    for line in lines:
        change = numbers.difference(
            line.difference, line.difference_low, line.difference_high, times
        )
        cells = [line.row, ", ".join(map(str, line.seeds)) or NOTHING, _mean(line, times)]
        cells.append("reference" if line.row == results.grid.reference else change)
        cells += [_compared(line)] if is_judged else []
        if has_published:
            cells.append(numbers.number(line.published))
            cells.append(numbers.number(line.published_difference, sign="+"))
        texts.append(tuple(cells))
    title = f"{numbers.heading(metric)} on {results.base.dataset} {split}"
    return Block(title, "", tuple(header), texts, names=2)


def _mean(line: Any, times: float) -> str:
    if not line.runs:
        return "not finished"
    return numbers.with_interval(line.mean, line.deviation, line.low, line.high, times)


def _compared(line: Any) -> str:
    if line.compared in ("", CHECKPOINTS):
        return line.compared or NOTHING
    if np.isnan(line.p_holm):
        return f"{line.compared}: {line.verdict}"
    return f"{line.compared}: {line.verdict}, p {numbers.p_value(line.p_holm)}"
