"""What the figures of a search share, which adapts Optuna's plots to a paper's page.

Optuna's grey "ggplot" and its pale blues are left out, numbers are percent, and the paper's setting
and the baseline are marked.
"""

import contextlib
import warnings
from collections.abc import Iterator
from unittest import mock

import matplotlib.pyplot as plt
import matplotlib.style
import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial

from reports import figures
from reports.figures import OURS, PUBLISHED, STYLE
from reports.studies.searches import results
from reports.studies.searches.results import ROLES
from studies.trials import BASELINE, PAPER

# From light to dark, so that it reads in grey and for color-blind readers. Its lightest tone still
# stands out from white.
SHADES = LinearSegmentedColormap.from_list("shades", ["#A6CBE3", OURS, "#001F33"])
MARKS = {
    PAPER: {"marker": "D", "color": PUBLISHED},
    BASELINE: {"marker": "s", "color": "#000000"},
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna quiet, whose matplotlib plots have been "experimental" since 2021."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # A parameter that has one value in all trials has an axis of one value, which matplotlib
        # widens by itself.
        warnings.filterwarnings("ignore", "Attempting to set identical", UserWarning)
        yield


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw without a display and in this package's style.

    The caller's pyplot is left as it was.
    """
    backend = plt.get_backend()
    before = set(plt.get_fignums())
    # Every plot of Optuna puts "ggplot" over the style in force, so "ggplot" is emptied meanwhile.
    plain = mock.patch.dict(matplotlib.style.library, {"ggplot": {}})
    style = [*STYLE, {"figure.constrained_layout.use": True}]
    with matplotlib.style.context(style), plain, quiet():
        plt.switch_backend("agg")
        try:
            yield
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)
            # The backend may be named in the environment and have no display here.
            with contextlib.suppress(ImportError):
                plt.switch_backend(backend)


def value(trial: FrozenTrial) -> float:
    """Return a trial's first objective."""
    return trial.values[0]


def percent(axis: Axis) -> None:
    """Show fractions as percent, with as many decimals as no tick is rounded by."""

    def text(tick: float, _: int) -> str:
        ticks = 100 * np.asarray(axis.get_majorticklocs())
        exact = (number for number in range(4) if np.allclose(ticks, ticks.round(number), 0, 1e-6))
        return f"{100 * tick:.{next(exact, 4)}f}"

    axis.set_major_locator(MaxNLocator(nbins=6, steps=(1, 2, 2.5, 5, 10)))
    axis.set_major_formatter(FuncFormatter(text))


def untitled(axes: Axes, grid: str = "both") -> None:
    """Take away what Optuna writes over a plot, and draw a pale grid behind it."""
    axes.set_title("")
    axes.set_title("", loc="left")
    figures.grid(axes, grid)


def references(study: optuna.Study) -> dict[str, FrozenTrial]:
    """Return the complete trials of the paper's setting and the baseline."""
    return results.references(study.get_trials(deepcopy=False))


def mark(axes: Axes, x: float, y: float, role: str) -> Line2D:
    """Mark a reference, and return what stands in the legend."""
    look = {"linestyle": "", "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.6}
    look |= MARKS[role]
    axes.plot(x, y, zorder=6, **look)
    return Line2D([], [], label=ROLES[role], **look)


def dot(label: str, **look: object) -> Line2D:
    """Return a legend's entry for trials."""
    usual = {"linestyle": "", "marker": "o", "markersize": 4, "color": OURS, "label": label}
    return Line2D([], [], **{**usual, **look})
