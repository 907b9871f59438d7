"""The figure of the mean per corruption over its severities, a panel per method."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import labels
from reports.layout import numbers
from reports.robustness import panels


def figure(rows: pd.DataFrame, title: str, metric: str) -> Figure:
    """Return the figure. It has a dot per strategy, and a line joins those of a corruption."""
    looks = panels.colors(rows)
    times = numbers.factor(metric)
    reference = labels.reference()
    fill = {label: "white" if label == reference else color for label, color in looks.items()}
    chosen = rows[rows["kind"].isin(["corruption mean", "clean"])]
    means = chosen[chosen["kind"] == "corruption mean"]["name"]
    names = ["clean", *panels.by_family(means)]
    methods = [*rows["label"].unique()]
    drawn, every = panels.side_by_side(len(methods), 0.155 * len(names) + 0.75)
    dot = {"marker": "o", "markersize": 4.4, "linewidth": 0}
    for axes, method in zip(every, methods, strict=True):
        own = chosen[chosen["label"] == method].set_index(["name", "strategy"])["mean"]
        for place, name in enumerate(names):
            values = {
                label: times * own[name, label] for label in looks if (name, label) in own.index
            }
            ends = [min(values.values()), max(values.values())]
            axes.plot(ends, [place] * 2, color="0.75", linewidth=1.4, zorder=2)
            for label, value in values.items():
                look = {"color": looks[label], "markerfacecolor": fill[label]}
                axes.plot(value, place, zorder=3, **dot, **look)
        panels.name_rows(axes, [panels.spoken(name) for name in names])
        axes.axhline(0.5, color="0.8", linewidth=0.6)
        axes.set_title(method, fontsize=7.5)
    drawn.supxlabel(f"{panels.titled(metric)}, mean over severities", fontsize=7.5)
    panels.title(drawn, f"{title}: mean per corruption")
    marks = [
        Line2D([], [], color=looks[label], markerfacecolor=fill[label], label=label, **dot)
        for label in panels.shown(looks, rows)
    ]
    panels.legend(drawn, marks)
    return drawn
