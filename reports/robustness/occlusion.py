"""The figure of the score over the covered share, a panel per covered target, a row per method."""

import itertools
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.robustness.occlusion import TARGETS
from reports import labels
from reports.figures import DASHES, PAGE, grid
from reports.layout import numbers
from reports.robustness import panels

TITLES = {
    "image": "of the whole image",
    "referent": "of the referent",
    "distractors": "of the other objects",
    "background": "elsewhere, as much as\nof the referent (control)",
}
APART = 0.1  # share of a panel's height between two lines that leaves room to name them


def figure(rows: pd.DataFrame, title: str, metric: str) -> Figure:
    """Return the figure, with a line per strategy from the clean split on, its interval as a band.

    Hollow markers are the reference, and filled ones are the other strategies.
    """
    looks = _looks(rows)
    chosen = rows[rows["kind"] == "occlusion"]
    targets = [name for name in TARGETS if (chosen["name"] == name).any()]
    methods = list(chosen["label"].unique())
    drawn = Figure(figsize=(PAGE, 1.4 * len(methods) + 0.8), layout="constrained")
    every = drawn.subplots(len(methods), len(targets), sharex=True, sharey=True, squeeze=False)
    means: dict[Axes, pd.DataFrame] = {}
    for (place, method), (column, target) in itertools.product(
        enumerate(methods), enumerate(targets)
    ):
        axes = every[place, column]
        clean = rows[(rows["kind"] == "clean") & (rows["label"] == method)].assign(level=0)
        own = chosen[(chosen["label"] == method) & (chosen["name"] == target)]
        shares = pd.concat([clean, own])
        means[axes] = _draw(axes, shares, looks, numbers.factor(metric))
        if place == 0:
            axes.set_title(TITLES[target], fontsize=7.5)
        if column == 0:
            axes.set_ylabel(method, fontsize=7.5)
    drawn.supxlabel("covered, % of its area (0: clean)", fontsize=7.5)
    drawn.supylabel(panels.titled(metric), fontsize=7.5)
    panels.title(drawn, f"{title}: parts of the image covered")
    if not _name_lines(means, looks):
        shown = panels.shown(panels.colors(rows), rows)
        panels.legend(drawn, [Line2D([], [], label=label, **looks[label]) for label in shown])
    return drawn


def _looks(rows: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Return strategy -> how its line looks."""
    reference = labels.reference()
    looks = {}
    for label, color in panels.colors(rows).items():
        looks[label] = {
            "color": color,
            # The reference is dashed, too, so that the lines differ in grey between the markers.
            "linestyle": DASHES[label == reference],
            "linewidth": 1.2,
            "marker": "o",
            "markersize": 3.2,
            "markerfacecolor": "white" if label == reference else color,
        }
    return looks


def _draw(
    axes: Axes, rows: pd.DataFrame, looks: dict[str, dict[str, object]], factor: float
) -> pd.DataFrame:
    """Draw the lines of a panel, and return what they show, a row per level, a column per line."""
    lines = {}
    for label, look in looks.items():
        own = rows[rows["strategy"] == label].sort_values("level")
        if own.empty:
            continue
        level = own["level"].astype(float)
        low, high = factor * own["low"], factor * own["high"]
        axes.fill_between(level, low, high, color=look["color"], alpha=0.16, linewidth=0)
        axes.plot(level, factor * own["mean"], **look)
        lines[label] = pd.Series(factor * own["mean"].to_numpy(), level.to_numpy())
    axes.set_xlim(-4, 100)
    axes.set_xticks(range(0, 101, 25))
    grid(axes, "y")
    return pd.DataFrame(lines)


def _name_lines(means: Mapping[Axes, pd.DataFrame], looks: dict[str, dict[str, object]]) -> bool:
    """Name two lines where they are farthest apart, and return whether there was room.

    More than two lines have a legend, since a name beside one would lie on another.

    Args:
        means: panel -> what its lines show, a row per level, a column per line.
        looks: strategy -> how its line looks.
    """
    if any(lines.shape[1] != 2 for lines in means.values()):
        return False
    gaps = {axes: (lines.iloc[:, 0] - lines.iloc[:, 1]).abs() for axes, lines in means.items()}
    axes = max(gaps, key=lambda panel: gaps[panel].max())
    low, high = axes.get_ylim()
    if not gaps[axes].max() > APART * (high - low):
        return False
    # The first share with nearly the widest gap, so that the name to the right stays in the panel.
    level = (gaps[axes] > 0.75 * gaps[axes].max()).idxmax()
    at_level = means[axes].loc[level].sort_values()
    # A score falls with the share, so there is room left below and right above a line.
    sides = ({"ha": "right", "va": "top"}, {"ha": "left", "va": "bottom"})
    for (label, value), side, away in zip(at_level.items(), sides, (-1, 1), strict=True):
        axes.annotate(
            label,
            (level, value),
            xytext=(5 * away, 3 * away),
            textcoords="offset points",
            fontsize=7,
            color=looks[label]["color"],
            parse_math=False,
            **side,
        )
    return True
