"""The figure of differences to the reference row, with the paper's beside them."""

from typing import Any

import numpy as np

from reports.differences import Point, draw
from reports.layout import numbers
from reports.studies.grids.results import Results


def points(results: Results) -> list[Point]:
    """Return the rows with their differences in the judged metric on the split that chose."""
    return [_point(results, line) for line in results.lines(results.splits[0], results.judged)]


def _point(results: Results, line: Any) -> Point:
    is_reference = line.row == results.grid.reference
    note = "reference" if is_reference else "" if line.runs else "not finished"
    times = numbers.factor(results.judged)
    ours = (line.difference, line.difference_low, line.difference_high)
    values = [times * number for number in ours]
    return Point(line.row, *values, 100 * line.published_difference, note)


def figure(results: Results) -> dict[str, bytes]:
    """Return `differences.png` and `.pdf`, or nothing if no row can be compared yet."""
    every = points(results)
    if all(np.isnan(point.value) for point in every):
        return {}
    heading = numbers.heading(results.judged)
    return draw(
        every,
        f"{heading} on {results.splits[0]} minus the reference's, points",
        f"{results.base.dataset}, 95 % interval",
        f"paper, {' and '.join(results.paper.datasets)}",
    )
