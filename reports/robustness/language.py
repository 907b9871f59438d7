"""The figure of language subsets, and of what covering one of their words changes."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.robustness.language import keywords, lengths
from reports.figures import PAGE
from reports.layout import numbers
from reports.robustness import panels
from reports.robustness.lines import ANY_WORD


def figure(rows: pd.DataFrame, title: str, metric: str) -> Figure:
    """Return the figure, with a row per method and bars with intervals per subset."""
    looks = panels.colors(rows)
    order = {"language": (*keywords(), *lengths()), "word": (ANY_WORD, *keywords())}
    names = {}
    for kind, every_name in order.items():
        there = set(rows[rows["kind"] == kind]["name"])
        if own := [name for name in every_name if name in there]:
            names[kind] = own
    methods = list(rows["label"].unique())
    drawn = Figure(figsize=(PAGE, 1.15 * len(methods) + 1.2), layout="constrained")
    widths = [len(own) + 1 for own in names.values()]
    every = drawn.subplots(
        len(methods), len(names), sharex="col", squeeze=False, width_ratios=widths
    )
    headings = {
        "language": f"{numbers.heading(metric)} of expressions, %",
        "word": "one word covered: change, points",
    }
    for place, (line, method) in enumerate(zip(every, methods, strict=True)):
        for axes, (kind, own) in zip(line, names.items(), strict=True):
            chosen = rows[(rows["label"] == method) & (rows["kind"] == kind)]
            _panel(axes, chosen, own, looks, "mean" if kind == "language" else "change", metric)
            if place == 0:
                axes.set_title(headings[kind], fontsize=7.5)
        line[0].set_ylabel(method, fontsize=7.5)
    panels.title(drawn, f"{title}: words (in brackets: how many)")
    panels.legend(drawn, panels.patches(looks, rows))
    return drawn


def _panel(
    axes: Axes,
    rows: pd.DataFrame,
    names: list[str],
    looks: dict[str, str],
    column: str,
    metric: str,
) -> None:
    groups = [rows["name"] == name for name in names]
    panels.bars(axes, rows, looks, groups, column, numbers.factor(metric))
    counts = rows.drop_duplicates("name").set_index("name")["expressions"]
    ticks = [f"{name} ({counts[name]})" for name in names]
    axes.set_xticks(range(len(ticks)), ticks, rotation=35, ha="right", rotation_mode="anchor")
