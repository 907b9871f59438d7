"""The figure of differences with their intervals, one line per row, and a paper's beside them."""

import dataclasses
import textwrap
from collections.abc import Sequence

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import figures
from reports.figures import COLUMN, OURS, PUBLISHED, QUIET, STYLE

LABEL_WIDTH = 26  # letters of a row's label before it goes on below
DIAMOND = {
    "marker": "D",
    "markersize": 4.2,
    "markerfacecolor": "white",
    "markeredgecolor": PUBLISHED,
}


@dataclasses.dataclass(frozen=True)
class Point:
    """A row of a grid. All numbers are points of percent, or NaN where there is none.

    Attributes:
        label: its name.
        value: difference to the reference.
        low: lower end of the difference's interval.
        high: upper end of the difference's interval.
        published: the paper's difference.
        note: words after the label ("reference", "not finished"), or "".
    """

    label: str
    value: float
    low: float
    high: float
    published: float
    note: str = ""


def draw(every: Sequence[Point], axis: str, ours: str, published: str) -> dict[str, bytes]:
    """Return the figure, with one line per row from the top.

    A dot with an interval stands for a measured difference, and a diamond for the paper's.

    Args:
        every: the rows.
        axis: what the numbers are.
        ours: what the legend calls the dots.
        published: what the legend calls the diamonds.
    """
    with matplotlib.style.context(STYLE):
        labels = [_label(point) for point in every]
        height = sum(0.1 + 0.13 * (1 + label.count("\n")) for label in labels) + 0.75
        drawn = Figure(figsize=(COLUMN, height), layout="constrained")
        axes = drawn.add_subplot()
        axes.axvline(0, color=QUIET, linewidth=0.7, zorder=1)
        both = any(not np.isnan(point.published) for point in every)
        # Our mark lies a little above the row's middle and the paper's below it, so that neither
        # hides the other.
        up = 0.14 if both else 0
        for place, point in enumerate(every):
            if point.note == "reference":
                bar = {"marker": "|", "markersize": 9, "markeredgewidth": 1.6, "color": QUIET}
                axes.plot(0, place, zorder=3, **bar)
                continue
            if not np.isnan(point.low):
                ends = [point.low, point.high]
                axes.plot(ends, [place - up] * 2, color=OURS, linewidth=1.2, zorder=3)
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
        # The label is the figure's, because the labels of rows may leave the axes little room.
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
