"""The figure of training losses on original and masked inputs (Fig. B of the paper)."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.runs.rundir import RunDir
from reports import figures
from reports.figures import COLORS, DASHES, PAGE, STYLE
from reports.studies.grids.results import Results

PROBES = {"original inputs": "probe/loss_original", "masked inputs": "probe/loss_masked"}
NOTE = (
    "The curves are the loss on a training batch and on the same batch masked, in train mode,"
    " every 25 steps. Points are single measurements. Wild ones, and the first tenth, may lie"
    " outside the frame. Lines are Gaussian means over steps (standard deviation 3 % of the"
    " training), and bands reach from the smallest to the largest seed."
)

Curve = tuple[Sequence[float], Sequence[float]]
"""Steps and values of one run."""
Panels = Mapping[str, Mapping[str, Sequence[Curve]]]
"""Title of a panel -> label of a row -> a curve per run that logged one."""


def curves(results: Results) -> Panels:
    """Return the loss curves that the finished runs of each row logged."""
    panels: dict[str, dict[str, list[Curve]]] = {}
    for label, (_, own) in results.rows.items():
        for run in own.values():
            logged = RunDir(results.runs / run.key).metrics()
            for title, name in PROBES.items():
                pairs = [
                    (line["step"], line[name]) for line in logged if line.get(name) is not None
                ]
                if pairs:
                    steps, values = zip(*pairs, strict=True)
                    panels.setdefault(title, {}).setdefault(label, []).append((steps, values))
    return panels


def silent(results: Results, panels: Panels) -> list[str]:
    """Return the rows without a curve."""
    drawn = {label for lines in panels.values() for label in lines}
    return [label for label in results.rows if label not in drawn]


def draw(panels: Panels, across: str, up: str) -> dict[str, bytes]:
    """Return `losses.png` and `.pdf`, with a color, faint points and a smoothed line per label.

    Several runs of a label give one line, their mean, and a band from the smallest to the largest.

    Args:
        panels: at least one.
        across: name of the horizontal axis.
        up: name of the vertical axis.
    """
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(PAGE, 2.5), layout="constrained")
        every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        names = list(dict.fromkeys(label for lines in panels.values() for label in lines))
        looks = {
            name: {"color": COLORS[n % len(COLORS)], "linestyle": DASHES[n % len(DASHES)]}
            for n, name in enumerate(names)
        }
        low = np.inf
        high = -np.inf
        for axes, (title, lines) in zip(every, panels.items(), strict=True):
            for label, runs in lines.items():
                own_low, own_high = _draw_row(axes, runs, looks[label])
                low = min(low, own_low)
                high = max(high, own_high)
            axes.set_title(title, fontsize=7.5, loc="left")
            axes.set_xlabel(across)
            figures.grid(axes)
            axes.margins(x=0.02)
        margin = 0.05 * (high - low) or 0.05
        every[0].set_ylim(low - margin, high + margin)
        every[0].set_ylabel(up)
        marks = [Line2D([], [], linewidth=1.3, label=name, **look) for name, look in looks.items()]
        columns = max(1, min(len(marks), int(110 / (8 + max(map(len, names))))))
        figure.legend(handles=marks, loc="outside upper left", ncols=columns, handlelength=2.6)
        return figures.files("losses", figure)


def _draw_row(axes: Axes, runs: Sequence[Curve], look: Mapping[str, object]) -> tuple[float, float]:
    """Draw the curves of one row, and return the range that must be in the frame.

    That range leaves out the first tenth, whose fall would flatten the rest, and wild single
    points.
    """
    steps = np.array(sorted(set.intersection(*(set(x) for x, _ in runs))), float)
    smooth = np.stack([smoothed(x, y, steps) for x, y in runs])  # (runs, steps)
    point = {"markersize": 3, "alpha": 0.3, "markeredgewidth": 0}
    for x, y in runs:
        axes.plot(x, y, ".", color=look["color"], zorder=2, **point)
    axes.plot(steps, smooth.mean(axis=0), linewidth=1.3, zorder=4, **look)
    if len(runs) > 1:
        band = smooth.min(axis=0), smooth.max(axis=0)
        axes.fill_between(steps, *band, color=look["color"], alpha=0.18, linewidth=0, zorder=3)
    start = steps[0] + 0.1 * np.ptp(steps)
    single = [value for x, y in runs for step, value in zip(x, y, strict=True) if step >= start]
    low, high = np.quantile(single, (0.01, 0.99))
    later = smooth[:, steps >= start]
    return min(low, later.min()), max(high, later.max())


def smoothed(x: Sequence[float], y: Sequence[float], at: Iterable[float]) -> np.ndarray:
    """Return Gaussian means of a curve at some steps, float64 (steps,).

    The Gaussian's standard deviation is 3 % of the curve's length, and at least one spacing.

    Args:
        x: steps of the curve.
        y: its values.
        at: steps at which the means are taken.
    """
    x, y, at = (np.asarray(part, float) for part in (x, y, list(at)))
    if len(x) < 2:
        return y
    width = max(0.03 * np.ptp(x), np.ptp(x) / (len(x) - 1))
    weights = np.exp(-0.5 * ((at[:, None] - x) / width) ** 2)
    return weights @ y / weights.sum(axis=1)
