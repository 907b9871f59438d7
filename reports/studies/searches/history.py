"""The figure of the values by trial, with the best so far, the references, and failed trials."""

import optuna
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from optuna.trial import TrialState
from optuna.visualization import matplotlib as optuna_plots

from reports.figures import OURS, PAGE, QUIET
from reports.studies.searches import plots
from reports.studies.searches.trials import trials_of


def figure(study: optuna.Study, heading: str) -> Figure:
    """Return the figure. `heading` says what the values are."""
    single = len(study.directions) == 1
    axes = optuna_plots.plot_optimization_history(
        study, target=None if single else plots.value, target_name=f"{heading} (%)"
    )
    drawn = axes.figure
    drawn.set_layout_engine("constrained")
    drawn.set_size_inches(PAGE, 2.6)
    axes.get_legend().remove()
    plots.untitled(axes, "y")
    handles = [plots.dot("complete trial")]
    for dots in axes.collections:
        dots.set(sizes=[16], facecolor=OURS, edgecolor="none", zorder=3)
    for line in axes.lines:
        line.set(color=QUIET, alpha=1, linewidth=1.2, drawstyle="steps-post", zorder=2)
        handles.append(Line2D([], [], color=QUIET, linewidth=1.2, label="best so far"))
    for role, trial in plots.references(study).items():
        value = trial.values[0]
        color = plots.MARKS[role]["color"]
        axes.axhline(value, color=color, linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
        handles.append(plots.mark(axes, trial.number, value, role))
    no_results = ((TrialState.PRUNED, "|", "pruned"), (TrialState.FAIL, "x", "failed"))
    for state, marker, label in no_results:
        where = [trial.number for trial in trials_of(study) if trial.state == state]
        look = {"linestyle": "", "marker": marker, "markersize": 5, "color": QUIET}
        look["markeredgewidth"] = 1
        if where:
            heights = [0.03] * len(where)
            axes.plot(where, heights, transform=axes.get_xaxis_transform(), zorder=4, **look)
            handles.append(Line2D([], [], label=f"{label} (no result)", **look))
    axes.margins(x=0.02, y=0.12)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    plots.percent(axes.yaxis)
    drawn.legend(
        handles=handles,
        loc="outside upper left",
        ncols=len(handles),
        columnspacing=1.4,
        handletextpad=0.5,
    )
    return drawn
