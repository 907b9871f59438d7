"""The figure of differences to the reference row, with the paper's beside them."""

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import figures
from reports.figures import COLUMN, OURS, PUBLISHED, QUIET, STYLE
from reports.layout import numbers
from reports.studies.grids.results import Results

LABEL_WIDTH = 26  # letters of a row's label before it goes on below
DIAMOND = {
    "marker": "D",
    "markersize": 4.2,
    "markerfacecolor": "white",
    "markeredgecolor": PUBLISHED,
}


@dataclasses.dataclass(frozen=True)
class Point:
    """A row of a grid, in points of percent; NaN where there is none.

    Attributes:
        label: its name. value, low, high: difference to the reference and its interval.
        published: the paper's difference.
        note: a word after the label ("reference", "not finished"), or "".
    """

    label: str
    value: float
    low: float
    high: float
    published: float
    note: str = ""


def points(found: Results) -> list[Point]:
    """Return the rows with their differences in the judged metric on the split that chose."""
    return [_point(found, line) for line in found.lines(found.splits[0], found.judged)]


def _point(found: Results, line: Any) -> Point:
    is_reference = line.row == found.grid.reference
    note = "reference" if is_reference else "" if line.runs else "not finished"
    times = numbers.factor(found.judged)
    ours = (line.difference, line.difference_low, line.difference_high)
    values = [times * number for number in ours]
    return Point(line.row, *values, 100 * line.published_difference, note)


def figure(found: Results) -> dict[str, bytes]:
    """Return `differences.png` and `.pdf`, or nothing where no row can be compared yet."""
    every = points(found)
    if all(np.isnan(point.value) for point in every):
        return {}
    heading = numbers.heading(found.judged)
    return draw(
        every,
        f"{heading} on {found.splits[0]} minus the reference's, points",
        f"{found.base.dataset}, 95 % interval",
        f"paper, {' and '.join(found.paper.datasets)}",
    )


def draw(every: Sequence[Point], axis: str, ours: str, published: str) -> dict[str, bytes]:
    """Return the figure: one line per row from the top, dots with intervals, diamonds of the paper.

    Args:
        axis: what the numbers are. ours, published: what the legend calls the two kinds of marks.
    """
    with matplotlib.style.context(STYLE):
        labels = [_label(point) for point in every]
        height = sum(0.1 + 0.13 * (1 + label.count("\n")) for label in labels) + 0.75
        drawn = Figure(figsize=(COLUMN, height), layout="constrained")
        axes = drawn.add_subplot()
        axes.axvline(0, color=QUIET, linewidth=0.7, zorder=1)
        both = any(not np.isnan(point.published) for point in every)
        # Ours a little above the row's middle and the paper's below, so that neither hides the other.
        up = 0.14 if both else 0
        for place, point in enumerate(every):
            if point.note == "reference":
                bar = {"marker": "|", "markersize": 9, "markeredgewidth": 1.6, "color": QUIET}
                axes.plot(0, place, zorder=3, **bar)
                continue
            if not np.isnan(point.low):
                ends, level = [point.low, point.high], [place - up] * 2
                axes.plot(ends, level, color=OURS, linewidth=1.2, zorder=3)
            axes.plot(point.value, place - up, marker="o", markersize=4.2, color=OURS, zorder=4)
            axes.plot(point.published, place + up, markeredgewidth=1, zorder=4, **DIAMOND)
        axes.set_yticks(range(len(every)), labels)
        for tick, point in zip(axes.get_yticklabels(), every, strict=True):
            tick.set_color(QUIET if point.note else "black")
        axes.set_ylim(len(every) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        figures.grid(axes, "x")
        axes.margins(x=0.06)
        # Of the figure and not of the axes, to which the labels of rows may leave little room.
        drawn.supxlabel(axis, fontsize=7.5)
        dot = {"color": OURS, "marker": "o", "markersize": 4.2, "linewidth": 1.2}
        marks = [Line2D([], [], label=ours, **dot)]
        if both:
            marks.append(Line2D([], [], linestyle="", label=published, **DIAMOND))
        drawn.legend(
            handles=marks,
            loc="outside upper left",
            ncols=len(marks),
            handlelength=1.6,
            columnspacing=1.4,
        )
        return figures.files("differences", drawn)


def _label(point: Point) -> str:
    lines = textwrap.wrap(point.label, LABEL_WIDTH)
    note = f" ({point.note})" if point.note else ""
    fits = len(lines[-1] + note) <= LABEL_WIDTH
    return "\n".join([*lines[:-1], lines[-1] + note] if fits else [*lines, note.strip()])
