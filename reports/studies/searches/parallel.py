"""The figure of one line a trial through its value and its parameters."""

import optuna
from matplotlib.figure import Figure
from optuna.visualization import matplotlib as optuna_plots

from reports.figures import PAGE
from reports.studies.searches import plots


def figure(study: optuna.Study, heading: str) -> Figure:
    """Return the figure. Better trials are darker and lie on top."""
    value = f"{heading} (%)"
    axes = optuna_plots.plot_parallel_coordinate(study, target=plots.value, target_name=value)
    drawn = axes.figure
    drawn.set_size_inches(PAGE, 3.0)
    axes.set_title("")
    (lines,) = axes.collections
    lines.set(cmap=plots.SHADES, linewidth=1.1)
    order = lines.get_array().argsort(kind="stable")
    lines.set_segments([lines.get_segments()[place] for place in order])
    lines.set_array(lines.get_array()[order])
    bar = lines.colorbar
    bar.set_label(value)
    bar.outline.set_linewidth(0.6)
    plots.percent(bar.ax.yaxis)
    plots.percent(axes.yaxis)
    parameters = [tick.get_text().replace("_", "\n") for tick in axes.get_xticklabels()[1:]]
    names = [value.replace(" (", "\n("), *parameters]
    axes.set_xticks(range(len(names)), names, rotation=0)
    axes.tick_params(axis="x", length=0, pad=6)
    for other in drawn.axes:
        if other in (axes, bar.ax):
            continue
        other.spines["right"].set_visible(True)
        other.spines[["left", "top", "bottom"]].set_visible(False)
        for label in other.get_yticklabels():
            label.set_bbox({"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6})
    return drawn
