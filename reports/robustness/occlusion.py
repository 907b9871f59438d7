"""The figure of what covering parts of the image changes, a row of panels per method."""

import pandas as pd
from matplotlib.figure import Figure

from benchmark.robustness.occlusion import TARGETS
from reports.figures import PAGE
from reports.layout import numbers
from reports.robustness import panels

TITLES = {
    "image": "of the whole image",
    "referent": "of the referent",
    "distractors": "of the other objects",
    "background": "elsewhere, as much as\nof the referent (control)",
}


def figure(rows: pd.DataFrame, title: str, metric: str) -> Figure:
    """Return the figure, with bars and their intervals per covered target and share."""
    looks = panels.colors(rows)
    chosen = rows[rows["kind"] == "occlusion"]
    targets = [name for name in TARGETS if (chosen["name"] == name).any()]
    methods = list(rows["label"].unique())
    levels = sorted(chosen["level"].astype(int).unique())
    drawn = Figure(figsize=(PAGE, 1.15 * len(methods) + 0.8), layout="constrained")
    every = drawn.subplots(len(methods), len(targets), sharex=True, sharey="row", squeeze=False)
    for place, (line, method) in enumerate(zip(every, methods, strict=True)):
        for axes, target in zip(line, targets, strict=True):
            own = chosen[(chosen["label"] == method) & (chosen["name"] == target)]
            own = own.sort_values("level")
            groups = [own["level"].astype(int) == level for level in levels]
            panels.bars(axes, own, looks, groups, "change", numbers.factor(metric))
            axes.set_xticks(range(len(levels)), levels)
            if place == 0:
                axes.set_title(TITLES[target], fontsize=7.5)
        line[0].set_ylabel(method, fontsize=7.5)
    drawn.supxlabel("covered, % of its area", fontsize=7.5)
    drawn.supylabel(f"change of {numbers.heading(metric)}, points", fontsize=7.5)
    panels.title(drawn, f"{title}: parts of the image covered")
    panels.legend(drawn, panels.patches(looks, rows))
    return drawn
