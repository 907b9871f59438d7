"""Figures of grids, as PNG and PDF: differences to a reference row, and loss curves.

Sizes and fonts are a paper's: one column for differences, both for curves. Colours are Okabe and Ito's, which colour-blind
readers tell apart. No date and no program enters a file, so the same numbers give the same bytes.
"""

import dataclasses
import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

COLUMN, PAGE = 3.35, 6.9  # width of a paper's column and of its page, inches
DPI = 200
OURS, PUBLISHED, QUIET = "#0072B2", "#D55E00", "0.45"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), "-.", (0, (7, 1, 1, 1, 1, 1)), (0, (3, 3)), (0, (9, 2)))
LABEL_WIDTH = 26  # letters of a row's label before it goes on below

# "default" first: what a user has in a matplotlibrc must not change the bytes.
STYLE = [
    "default",
    {
        "font.family": "DejaVu Sans",  # the font that matplotlib brings along
        "font.size": 7.5,
        "axes.labelsize": 7.5,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "pdf.fonttype": 42,
        "figure.dpi": DPI,
        "savefig.dpi": DPI,
    },
]


@dataclasses.dataclass(frozen=True)
class Point:
    """A row of a grid, in points of percent; NaN where there is none.

    Attributes:
        label: its name. value, low, high: difference to the reference and its interval. published: the paper's difference.
        note: a word after the label ("reference", "not finished"), or "".
    """

    label: str
    value: float
    low: float
    high: float
    published: float
    note: str = ""


Curve = tuple[Sequence[float], Sequence[float]]
"""Steps and values of one run."""


def differences(points: Sequence[Point], axis: str, ours: str, published: str) -> dict[str, bytes]:
    """Return `differences.png` and `.pdf`: one line per row from the top, dots with intervals, published ones as diamonds.

    Args:
        axis: what the numbers are. ours, published: what the legend calls the two kinds of marks.
    """
    with matplotlib.style.context(STYLE):
        labels = [_label(point) for point in points]
        height = sum(0.1 + 0.13 * (1 + label.count("\n")) for label in labels) + 0.75
        figure = Figure(figsize=(COLUMN, height), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=QUIET, linewidth=0.7, zorder=1)
        both = any(not np.isnan(p.published) for p in points)
        # Ours a little above the row's middle and the paper's below, so that neither hides the other.
        up = 0.14 if both else 0
        for place, point in enumerate(points):
            if point.note == "reference":
                axes.plot(0, place, marker="|", markersize=9, markeredgewidth=1.6, color=QUIET, zorder=3)
                continue
            if not np.isnan(point.low):
                axes.plot([point.low, point.high], [place - up] * 2, color=OURS, linewidth=1.2, zorder=3)
            axes.plot(point.value, place - up, marker="o", markersize=4.2, color=OURS, zorder=4)
            axes.plot(
                point.published,
                place + up,
                marker="D",
                markersize=4.2,
                markerfacecolor="white",
                markeredgecolor=PUBLISHED,
                markeredgewidth=1,
                zorder=4,
            )
        axes.set_yticks(range(len(points)), labels)
        for tick, point in zip(axes.get_yticklabels(), points, strict=True):
            tick.set_color(QUIET if point.note else "black")
        axes.set_ylim(len(points) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.margins(x=0.06)
        figure.supxlabel(axis, fontsize=7.5)  # of the figure: labels of rows may leave the axes little room
        marks = [Line2D([], [], color=OURS, marker="o", markersize=4.2, linewidth=1.2, label=ours)]
        if both:
            diamond = {"marker": "D", "markersize": 4.2, "markerfacecolor": "white", "markeredgecolor": PUBLISHED}
            marks.append(Line2D([], [], linestyle="", label=published, **diamond))
        figure.legend(handles=marks, loc="outside upper left", ncols=len(marks), handlelength=1.6, columnspacing=1.4)
        return files("differences", figure)


def _label(point: Point) -> str:
    lines = textwrap.wrap(point.label, LABEL_WIDTH)
    note = f" ({point.note})" if point.note else ""
    fits = len(lines[-1] + note) <= LABEL_WIDTH
    return "\n".join([*lines[:-1], lines[-1] + note] if fits else [*lines, note.strip()])


def curves(panels: Mapping[str, Mapping[str, Sequence[Curve]]], across: str, up: str) -> dict[str, bytes]:
    """Return `losses.png` and `.pdf`: a panel per title, in it a colour per label, faint points and a smoothed line.

    Several runs of a label give one line, their mean, and a band from the smallest to the largest.

    Args:
        panels: title -> label -> a curve per seed. across, up: names of the axes.
    """
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(PAGE, 2.5), layout="constrained")
        every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        names = list(dict.fromkeys(label for lines in panels.values() for label in lines))
        looks = {name: (COLOURS[n % len(COLOURS)], DASHES[n % len(DASHES)]) for n, name in enumerate(names)}
        low, high = np.inf, -np.inf
        for axes, (title, lines) in zip(every, panels.items(), strict=True):
            for label, runs in lines.items():
                colour, dashes = looks[label]
                steps, smooth = _together(runs)
                for x, y in runs:
                    axes.plot(x, y, ".", color=colour, markersize=3, alpha=0.3, markeredgewidth=0, zorder=2)
                axes.plot(steps, smooth.mean(axis=0), color=colour, linestyle=dashes, linewidth=1.3, zorder=4)
                if len(runs) > 1:
                    band = smooth.min(axis=0), smooth.max(axis=0)
                    axes.fill_between(steps, *band, color=colour, alpha=0.18, linewidth=0, zorder=3)
                low, high = _reach((low, high), runs, steps, smooth)
            axes.set_title(title, fontsize=7.5, loc="left")
            axes.set_xlabel(across)
            axes.grid(color="0.92", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.margins(x=0.02)
        margin = 0.05 * (high - low) or 0.05
        every[0].set_ylim(low - margin, high + margin)
        every[0].set_ylabel(up)
        marks = [Line2D([], [], color=c, linestyle=d, linewidth=1.3, label=name) for name, (c, d) in looks.items()]
        columns = max(1, min(len(marks), int(110 / (8 + max(map(len, names))))))
        figure.legend(handles=marks, loc="outside upper left", ncols=columns, handlelength=2.6)
        return files("losses", figure)


def _together(runs: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps that all runs have, and each run's smoothed values there, (runs, steps)."""
    steps = np.array(sorted(set.intersection(*(set(x) for x, _ in runs))), float)
    return steps, np.stack([smoothed(x, y, steps) for x, y in runs])


def smoothed(x: Sequence[float], y: Sequence[float], at: Iterable[float]) -> np.ndarray:
    """Return Gaussian means of a curve, their standard deviation 3 % of its length and at least one spacing."""
    x, y, at = (np.asarray(part, float) for part in (x, y, list(at)))
    if len(x) < 2:
        return y
    width = max(0.03 * np.ptp(x), np.ptp(x) / (len(x) - 1))
    weights = np.exp(-0.5 * ((at[:, None] - x) / width) ** 2)
    return weights @ y / weights.sum(axis=1)


def _reach(
    known: tuple[float, float], runs: Sequence[Curve], steps: np.ndarray, smooth: np.ndarray
) -> tuple[float, float]:
    """Return the range that shows all but the first tenth, whose fall would flatten the rest, and wild single points."""
    start = steps[0] + 0.1 * np.ptp(steps)
    raw = np.array([value for x, y in runs for step, value in zip(x, y, strict=True) if step >= start])
    low, high = np.quantile(raw, (0.01, 0.99))
    later = smooth[:, steps >= start]
    return min(known[0], low, later.min()), max(known[1], high, later.max())


def files(name: str, figure: Figure) -> dict[str, bytes]:
    """Return a figure as `<name>.png` and `<name>.pdf`, without date or program."""
    nameless = {
        "png": {"Software": None},
        "pdf": dict.fromkeys(("CreationDate", "ModDate", "Producer", "Creator")),
    }
    found = {}
    for kind, metadata in nameless.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=metadata)
        found[f"{name}.{kind}"] = buffer.getvalue()
    return found
