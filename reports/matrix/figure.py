"""The figure of what each strategy changes: a line per method and split, with its interval."""

from collections.abc import Sequence

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import methods
from reports import figures, labels
from reports.figures import COLUMN, QUIET, STYLE, Drawn
from reports.layout import numbers

ROW = 0.17  # height of a line, inches
MOST = 60  # lines of a figure
DOT = {"marker": "o", "markersize": 4.4}


def draw(table: pd.DataFrame, primary: dict[str, str], reference: str) -> list[Drawn]:
    """Return the figure for every data set and supervision in which something is compared.

    With more than `MOST` lines there is none, since nobody could read it and the table has all.
    A filled dot has a verdict of better or worse, and a hollow one has none.

    Args:
        table: what `compare.comparison` returns.
        primary: supervision -> the metric that is judged.
        reference: label of the strategy that the others are compared with.
    """
    rows = labels.with_method_labels(table)
    rows = rows[(rows["metric"] == rows["supervision"].map(primary)) & rows["difference"].notna()]
    every: list[Drawn] = []
    places = ["dataset", "split_by", "supervision"]
    with matplotlib.style.context(STYLE):
        for (dataset, split_by, supervision), own in rows.groupby(places, sort=False):
            weak = ", weakly supervised" if supervision == "weak" else ""
            title = f"{dataset} ({split_by}){weak}"
            name = "-".join(
                filter(None, ["differences", dataset, split_by, "weak" if weak else ""])
            )
            if len(own) > MOST:
                continue
            drawn = _figure(own.to_dict("records"), title, primary[supervision], reference)
            every.append(Drawn.of("differences", own, name, drawn))
    return every


def _figure(rows: Sequence[dict], title: str, metric: str, reference: str) -> Figure:
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    split_names = list(dict.fromkeys(row["split"] for row in rows))
    looks = {name: figures.method_color(name) for name in methods.names()}
    times = numbers.factor(metric)
    drawn = Figure(
        figsize=(COLUMN, ROW * (len(rows) + len(split_names)) + 0.75), layout="constrained"
    )
    axes = drawn.add_subplot()
    axes.axvline(0, color=QUIET, linewidth=0.7, zorder=1)
    names, place = [], 0
    for split in split_names:
        axes.text(
            0.0, place, split, transform=axes.get_yaxis_transform(), fontweight="bold", va="center"
        )
        place += 1
        for row in (row for row in rows if row["split"] == split):
            color = looks[row["method"]]
            ends = [times * row["difference_low"], times * row["difference_high"]]
            if not np.isnan(ends[0]):
                axes.plot(ends, [place] * 2, color=color, linewidth=1.2, zorder=3)
            fill = color if row["verdict"] in ("better", "worse") else "white"
            look = {"color": color, "markerfacecolor": fill}
            axes.plot(times * row["difference"], place, zorder=4, **DOT, **look)
            several = f", {row['strategy']}" if len(strategies) > 1 else ""
            names.append((place, f"{row['label']}{several}"))
            place += 1
    axes.set_yticks([at for at, _ in names], [name for _, name in names])
    axes.set_ylim(place - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    figures.grid(axes, "x")
    others = strategies[0] if len(strategies) == 1 else "each strategy"
    axes.set_xlabel(f"{others} minus {reference}, points of {numbers.heading(metric)}")
    drawn.suptitle(title, x=0.01, ha="left", fontsize=8, fontweight="bold")
    fills = {"better or worse": QUIET, "not shown to differ": "white"}
    marks = [
        Line2D([], [], **DOT, linestyle="", color=QUIET, markerfacecolor=fill, label=label)
        for label, fill in fills.items()
    ]
    drawn.legend(handles=marks, loc="outside lower left", ncols=2, handlelength=1)
    return drawn
