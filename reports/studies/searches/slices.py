"""The figure of value over parameter, with a panel per parameter. Later trials are darker.

It is drawn here because Optuna puts all parameters into one row.
"""

import math
from collections.abc import Sequence

import optuna
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from reports.figures import PAGE
from reports.studies.searches import plots
from reports.studies.searches.results import SWITCH
from reports.studies.searches.trials import complete
from studies.trials import BASELINE


def figure(study: optuna.Study, heading: str, unused: Sequence[str]) -> Figure:
    """Return the figure, three panels in a row.

    Args:
        study: the search.
        heading: what the value is.
        unused: parameters that count for nothing in a trial that is the baseline.
    """
    trials = complete(study.get_trials(deepcopy=False))
    ranges = {
        name: distribution for trial in trials for name, distribution in trial.distributions.items()
    }
    across = min(3, len(ranges))
    down = math.ceil(len(ranges) / across)
    drawn = Figure(figsize=(PAGE, 0.55 + 1.75 * down), layout="constrained")
    panels = drawn.subplots(down, across, sharey=True, squeeze=False)
    references = plots.references(study)
    handles: dict[str, Line2D] = {}
    dots = None
    first = trials[0].number
    last = trials[-1].number
    for axes, (name, distribution) in zip(panels.flat, ranges.items(), strict=False):
        shown = [trial for trial in trials if _uses(trial, name, unused)]
        for role, trial in references.items():
            if trial in shown:
                handles[role] = plots.mark(
                    axes, _place(trial, name, distribution), trial.values[0], role
                )
        dots = _dots(axes, shown, name, distribution, (first, max(last, first + 1)))
    for axes in panels.flat[len(ranges) :]:
        axes.remove()
    for axes in panels[:, 0]:
        axes.set_ylabel(f"{heading} (%)")
    bar = drawn.colorbar(dots, ax=[*panels.flat[: len(ranges)]], label="trial", pad=0.02, aspect=30)
    bar.outline.set_linewidth(0.6)
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if legend := [handles[role] for role in plots.MARKS if role in handles]:
        if BASELINE in handles and unused:
            where = " (shown where it uses the parameter)"
            legend[-1].set_label(legend[-1].get_label() + where)
        drawn.legend(handles=legend, loc="outside upper left", ncols=2, handletextpad=0.5)
    return drawn


def _uses(trial: FrozenTrial, name: str, unused: Sequence[str]) -> bool:
    is_baseline = trial.params.get(SWITCH) == 0
    return name in trial.params and not (is_baseline and name in unused)


def _dots(
    axes: Axes,
    trials: Sequence[FrozenTrial],
    name: str,
    distribution: BaseDistribution,
    numbers: tuple[int, int],
) -> PathCollection:
    """Draw the trials over one parameter, in shades from the first of `numbers` to the last."""
    dots = axes.scatter(
        [_place(trial, name, distribution) for trial in trials],
        [trial.values[0] for trial in trials],
        c=[trial.number for trial in trials],
        cmap=plots.SHADES,
        vmin=numbers[0],
        vmax=numbers[1],
        s=16,
        linewidths=0,
        zorder=3,
    )
    if isinstance(distribution, CategoricalDistribution):
        axes.set_xticks(range(len(distribution.choices)), map(str, distribution.choices))
        axes.set_xlim(-0.5, len(distribution.choices) - 0.5)
    elif distribution.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    plots.untitled(axes)
    axes.margins(x=0.06, y=0.08)
    axes.set_xlabel(name)
    plots.percent(axes.yaxis)
    return dots


def _place(trial: FrozenTrial, name: str, distribution: BaseDistribution) -> float:
    """Return where a trial lies on a parameter's axis."""
    if not isinstance(distribution, CategoricalDistribution):
        return trial.params[name]
    # Trials of the same choice lie side by side.
    return list(distribution.choices).index(trial.params[name]) + 0.06 * (trial.number % 5 - 2)
