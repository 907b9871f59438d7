"""The figure of a score over severity, a panel per corruption."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.robustness import corruptions
from reports.figures import PAGE, grid
from reports.layout import numbers
from reports.robustness import panels

ACROSS = 5  # panels in a row


def figure(rows: pd.DataFrame, title: str, metric: str) -> Figure:
    """Return the figure of one method, with a line per strategy and its interval as a band."""
    looks = panels.colors(rows)
    names = panels.by_family(rows[rows["kind"] == "corruption"]["name"])
    across = min(ACROSS, len(names))
    down = -(-len(names) // across)
    size = (PAGE * max(across, 3) / ACROSS, 1.35 * down + 0.6)
    drawn = Figure(figsize=size, layout="constrained")
    every = drawn.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for number, axes in enumerate(every.flat):
        if number >= len(names):
            axes.set_axis_off()
            continue
        _panel(axes, rows, names[number], looks, numbers.factor(metric))
        if number + across >= len(names):
            axes.tick_params(labelbottom=True)
    drawn.supxlabel("severity (0: clean)", fontsize=7.5)
    drawn.supylabel(panels.titled(metric), fontsize=7.5)
    panels.title(drawn, title)
    look = {"marker": "o", "markersize": 3.5, "linewidth": 1.2}
    panels.legend(
        drawn,
        [
            Line2D([], [], color=looks[label], label=label, **look)
            for label in panels.shown(looks, rows)
        ],
    )
    return drawn


def _panel(
    axes: Axes, rows: pd.DataFrame, corruption: str, looks: dict[str, str], factor: float
) -> None:
    axes.set_title(panels.spoken(corruption), fontsize=7.5)
    for label, color in looks.items():
        own = rows[rows["strategy"] == label]
        clean = own[own["kind"] == "clean"].assign(level=0)
        corrupted = own[(own["kind"] == "corruption") & (own["name"] == corruption)]
        line = pd.concat([clean, corrupted]).sort_values("level")
        level = line["level"].astype(float)
        low = factor * line["low"]
        high = factor * line["high"]
        axes.fill_between(level, low, high, color=color, alpha=0.16, linewidth=0)
        mean = factor * line["mean"]
        axes.plot(level, mean, color=color, marker="o", markersize=2.6, linewidth=1.2)
    axes.set_xticks(range(1 + len(corruptions.SEVERITIES)))
    grid(axes, "y")
