"""The figure of both objectives of every complete trial, with the front and the references."""

import optuna
from matplotlib.figure import Figure
from optuna.visualization import matplotlib as optuna_plots

from reports.figures import COLUMN, OURS
from reports.studies.searches import plots


def figure(study: optuna.Study, headings: list[str]) -> Figure:
    """Return the figure. `headings` say what the two objectives are."""
    names = [f"{heading} (%)" for heading in headings]
    axes = optuna_plots.plot_pareto_front(study, target_names=names)
    drawn = axes.figure
    drawn.set_size_inches(COLUMN * 1.3, 3.1)
    if axes.get_legend():
        axes.get_legend().remove()
    plots.untitled(axes)
    front = sorted({tuple(trial.values) for trial in study.best_trials})
    for dots in axes.collections:
        on_front = {tuple(point) for point in dots.get_offsets().tolist()} <= set(front)
        color, size = (OURS, 22) if on_front else ("0.7", 14)
        dots.set(sizes=[size], facecolor=color, edgecolor="none", zorder=3)
    axes.step(*zip(*front, strict=True), where="post", color=OURS, linewidth=1, zorder=2)
    handles = [
        plots.dot("Pareto front", linestyle="-", linewidth=1),
        plots.dot("other trial", color="0.7", markersize=3.5),
    ]
    for role, trial in plots.references(study).items():
        handles.append(plots.mark(axes, *trial.values, role))
    axes.margins(0.08)
    plots.percent(axes.xaxis)
    plots.percent(axes.yaxis)
    drawn.legend(handles=handles, loc="outside upper left", ncols=2, handletextpad=0.5)
    return drawn
