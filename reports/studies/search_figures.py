"""Figures of a search, as PNG and PDF: history, parallel coordinates, slices, importances, and, of two objectives, the front.

Optuna's own plots, put right for a paper's page: its grey "ggplot" and its pale blues are left out, numbers are percent, the
paper's setting and the baseline are marked. Slices are drawn here, because Optuna puts all parameters into one row. The same
study gives the same bytes.
"""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from unittest import mock

import matplotlib.pyplot as plt
import matplotlib.style
import optuna
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as optuna_plots

from reports.figures import COLUMN, OURS, PAGE, PUBLISHED, QUIET, STYLE, files

VALUE = "val oIoU (%)"
ENOUGH = 50  # complete trials behind importances; with fewer, the picture says so
BASELINE_COLOUR = "#000000"
# From light to dark, so that it reads in grey and for the colour-blind; its lightest tone still stands out from white.
SHADES = LinearSegmentedColormap.from_list("shades", ["#A6CBE3", OURS, "#001F33"])
MARKS = {
    "paper": ("the paper's setting", {"marker": "D", "color": PUBLISHED}),
    "baseline": ("baseline", {"marker": "s", "color": BASELINE_COLOUR}),
}


@dataclasses.dataclass(frozen=True)
class Importances:
    """How much of the variance of val oIoU each parameter explains.

    Attributes:
        shares: parameter -> share, the largest first; empty where there are none. complete: trials behind them.
        warning: what must stand beside them, or why there are none; "" where nothing is to be said.
    """

    shares: Mapping[str, float]
    complete: int
    warning: str


def complete_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that ended with a value, in their order: pruned and failed ones are no results."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]


def importances(study: optuna.Study) -> Importances:
    """Return the parameters' importances by fANOVA with a fixed seed, or why there are none."""
    trials = complete_trials(study)
    count = f"{len(trials)} complete trial{'s' * (len(trials) != 1)}"
    if len({trial.values[0] for trial in trials}) < 2:
        why = "there is nothing to explain: all values are equal" if len(trials) > 1 else "two are needed at least"
        return Importances({}, len(trials), f"No importances from {count}: {why}.")
    try:
        with _quiet():
            shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), target=_oiou)
    except (ImportError, RuntimeError, ValueError) as error:
        return Importances({}, len(trials), f"No importances from {count}: {str(error).splitlines()[0].rstrip('.')}.")
    if not sum(shares.values()) > 0:
        return Importances({}, len(trials), f"No importances from {count}: no parameter explains anything.")
    few = f"Only {count} (fewer than {ENOUGH}): the importances are rough, their order may be chance."
    return Importances(shares, len(trials), few if len(trials) < ENOUGH else "")


def draw(study: optuna.Study, unused: Sequence[str], known: Importances) -> dict[str, bytes]:
    """Return file name -> content of all figures that a study with complete trials has.

    Args:
        unused: parameters that count for nothing where distill_weight is 0. known: what `importances` returned.
    """
    found = {}
    with _drawing():
        found |= files("history", _history(study))
        if any(trial.params for trial in complete_trials(study)):
            found |= files("parallel", _parallel(study))
            found |= files("slices", _slices(study, unused))
        if known.shares:
            found |= files("importances", _importances(study, known))
        if len(study.directions) == 2:
            found |= files("pareto", _pareto(study))
    return found


# --- surroundings -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna quiet: its matplotlib plots have been "experimental" since 2021, and are looked at here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # A parameter that has one value in all trials has an axis of one value, which matplotlib widens by itself.
        warnings.filterwarnings("ignore", "Attempting to set identical", UserWarning)
        yield


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    """Draw without a display and in this package's style; leave the caller's pyplot as it was."""
    backend, before = plt.get_backend(), set(plt.get_fignums())
    # Every plot of Optuna's puts "ggplot" over the style in force; for as long as it draws, that is an empty style.
    plain = mock.patch.dict(matplotlib.style.library, {"ggplot": {}})
    with matplotlib.style.context([*STYLE, {"figure.constrained_layout.use": True}]), plain, _quiet():
        plt.switch_backend("agg")
        try:
            yield
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)
            with contextlib.suppress(ImportError):  # it was named in the environment and has no display here
                plt.switch_backend(backend)


def _oiou(trial: FrozenTrial) -> float:
    return trial.values[0]


def _percent(axis: object) -> None:
    """Show fractions as percent, with as many decimals as the ticks need to differ."""

    def text(value: float, _: int) -> str:
        ticks = sorted(axis.get_majorticklocs())
        step = min((b - a for a, b in zip(ticks, ticks[1:], strict=False) if b > a), default=0.01)
        return f"{100 * value:.{max(0, min(4, -math.floor(math.log10(100 * step) + 1e-6)))}f}"

    axis.set_major_locator(MaxNLocator(nbins=6, steps=(1, 2, 2.5, 5, 10)))
    axis.set_major_formatter(FuncFormatter(text))


def _grid(axes: Axes, axis: str = "both") -> None:
    axes.set_title("")
    axes.set_title("", loc="left")
    axes.grid(axis=axis, color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)


def _broken(name: str) -> str:
    """Return a parameter's name over several lines."""
    return name.replace("_", "\n")


def _references(study: optuna.Study) -> dict[str, FrozenTrial]:
    """Return the complete trials of the paper's setting and the baseline."""
    return {t.user_attrs["reference"]: t for t in complete_trials(study) if t.user_attrs.get("reference") in MARKS}


def _mark(axes: Axes, x: float, y: float, reference: str) -> Line2D:
    """Mark a reference, and return what stands in the legend."""
    label, look = MARKS[reference]
    look = {"linestyle": "", "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.6, **look}
    axes.plot(x, y, zorder=6, **look)
    return Line2D([], [], label=label, **look)


def _dot(label: str, **look: object) -> Line2D:
    return Line2D([], [], **{"linestyle": "", "marker": "o", "markersize": 4, "color": OURS, "label": label, **look})


# --- figures ----------------------------------------------------------------------------------------------------------


def _history(study: optuna.Study) -> Figure:
    """Return the values by trial, the best so far, the references, and where trials were pruned or failed."""
    single = len(study.directions) == 1
    axes = optuna_plots.plot_optimization_history(study, target=None if single else _oiou, target_name=VALUE)
    figure = axes.figure
    figure.set_layout_engine("constrained")
    figure.set_size_inches(PAGE, 2.6)
    axes.get_legend().remove()
    _grid(axes, "y")
    handles = [_dot("complete trial")]
    for dots in axes.collections:
        dots.set(sizes=[16], facecolor=OURS, edgecolor="none", zorder=3)
    for line in axes.lines:
        line.set(color=QUIET, alpha=1, linewidth=1.2, drawstyle="steps-post", zorder=2)
        handles.append(Line2D([], [], color=QUIET, linewidth=1.2, label="best so far"))
    references = _references(study)
    for reference in (name for name in MARKS if name in references):
        trial = references[reference]
        axes.axhline(
            trial.values[0], color=MARKS[reference][1]["color"], linewidth=0.7, linestyle=(0, (4, 2)), zorder=1
        )
        handles.append(_mark(axes, trial.number, trial.values[0], reference))
    for state, marker, label in ((TrialState.PRUNED, "|", "pruned"), (TrialState.FAIL, "x", "failed")):
        where = [
            t.number for t in study.get_trials(deepcopy=False) if t.state == state and "surplus" not in t.user_attrs
        ]
        if where:
            look = {"linestyle": "", "marker": marker, "markersize": 5, "color": QUIET, "markeredgewidth": 1}
            axes.plot(where, [0.03] * len(where), transform=axes.get_xaxis_transform(), zorder=4, **look)
            handles.append(Line2D([], [], label=f"{label} (no result)", **look))
    axes.margins(x=0.02, y=0.12)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    _percent(axes.yaxis)
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), columnspacing=1.4, handletextpad=0.5)
    return figure


def _parallel(study: optuna.Study) -> Figure:
    """Return one line a trial through its value and its parameters; better trials are darker and lie on top."""
    axes = optuna_plots.plot_parallel_coordinate(study, target=_oiou, target_name=VALUE)
    figure = axes.figure
    figure.set_size_inches(PAGE, 3.0)
    axes.set_title("")
    (lines,) = axes.collections
    lines.set(cmap=SHADES, linewidth=1.1)
    order = lines.get_array().argsort(kind="stable")
    lines.set_segments([lines.get_segments()[place] for place in order])
    lines.set_array(lines.get_array()[order])
    colourbar = lines.colorbar
    colourbar.set_label(VALUE)
    colourbar.outline.set_linewidth(0.6)
    _percent(colourbar.ax.yaxis)
    _percent(axes.yaxis)
    names = [VALUE.replace(" (", "\n("), *(_broken(tick.get_text()) for tick in axes.get_xticklabels()[1:])]
    axes.set_xticks(range(len(names)), names, rotation=0)
    axes.tick_params(axis="x", length=0, pad=6)
    for other in figure.axes:
        if other not in (axes, colourbar.ax):
            other.spines["right"].set_visible(True)
            other.spines[["left", "top", "bottom"]].set_visible(False)
            for label in other.get_yticklabels():
                label.set_bbox({"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6})
    return figure


def _slices(study: optuna.Study, unused: Sequence[str]) -> Figure:
    """Return a panel per parameter, three in a row: value over parameter, later trials darker."""
    trials = complete_trials(study)
    rooms = {name: room for trial in trials for name, room in trial.distributions.items()}
    columns = min(3, len(rooms))
    rows = math.ceil(len(rooms) / columns)
    figure = Figure(figsize=(PAGE, 0.55 + 1.75 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    references, handles, dots = _references(study), {}, None
    for axes, (name, room) in zip(panels.flat, rooms.items(), strict=False):
        choices = room.choices if isinstance(room, CategoricalDistribution) else None
        shown = [t for t in trials if name in t.params and not (name in unused and t.params.get("distill_weight") == 0)]
        for reference, trial in references.items():
            if trial in shown:
                handles[reference] = _mark(axes, _place(trial, name, choices), trial.values[0], reference)
        dots = axes.scatter(
            [_place(trial, name, choices) for trial in shown],
            [trial.values[0] for trial in shown],
            c=[trial.number for trial in shown],
            cmap=SHADES,
            vmin=trials[0].number,
            vmax=max(trials[-1].number, trials[0].number + 1),
            s=16,
            linewidths=0,
            zorder=3,
        )
        if choices:
            axes.set_xticks(range(len(choices)), map(str, choices))
            axes.set_xlim(-0.5, len(choices) - 0.5)
        elif room.log:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        _grid(axes)
        axes.margins(x=0.06, y=0.08)
        axes.set_xlabel(name)
        _percent(axes.yaxis)
    for axes in panels.flat[len(rooms) :]:
        axes.remove()
    for axes in panels[:, 0]:
        axes.set_ylabel(VALUE)
    bar = figure.colorbar(dots, ax=[*panels.flat[: len(rooms)]], label="trial", pad=0.02, aspect=30)
    bar.outline.set_linewidth(0.6)
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    legend = [handles[name] for name in MARKS if name in handles]
    if legend:
        where = " (shown where it uses the parameter)" if "baseline" in handles and unused else ""
        legend[-1].set_label(legend[-1].get_label() + where)
        figure.legend(handles=legend, loc="outside upper left", ncols=2, handletextpad=0.5)
    return figure


def _place(trial: FrozenTrial, name: str, choices: Sequence[object] | None) -> float:
    """Return where a trial lies on a parameter's axis: among choices, by their order, the trials beside each other."""
    if choices is None:
        return trial.params[name]
    return list(choices).index(trial.params[name]) + 0.06 * (trial.number % 5 - 2)


def _importances(study: optuna.Study, known: Importances) -> Figure:
    """Return the shares as bars, with the warning in the picture itself where few trials stand behind them."""
    evaluator = FanovaImportanceEvaluator(seed=0)
    axes = optuna_plots.plot_param_importances(study, evaluator=evaluator, target=_oiou, target_name=VALUE)
    figure = axes.figure
    figure.set_size_inches(COLUMN * 1.3, 0.9 + 0.22 * len(known.shares) + 0.3 * bool(known.warning))
    axes.get_legend().remove()
    _grid(axes, "x")
    for bar in axes.patches:
        bar.set(facecolor=OURS, y=bar.get_y() + 0.1, height=0.6)  # 0.8 high before
    for text in axes.texts:
        text.set(fontsize=7, x=text.get_position()[0] + 0.012)
    axes.set_xlim(0, 1.14 * max(known.shares.values()))
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel("")
    axes.set_xlabel("share of the variance of val oIoU (fANOVA)")
    if known.warning:
        head, _, tail = known.warning.partition(": ")
        figure.suptitle(f"{head}:\n{tail}", fontsize=7, color=PUBLISHED, x=0.01, ha="left")
    return figure


def _pareto(study: optuna.Study) -> Figure:
    """Return both objectives of every complete trial, the front joined, the references marked."""
    names = [VALUE, "corrupted val oIoU (%)"]
    axes = optuna_plots.plot_pareto_front(study, target_names=names)
    figure = axes.figure
    figure.set_size_inches(COLUMN * 1.3, 3.1)
    if axes.get_legend():
        axes.get_legend().remove()
    _grid(axes)
    front = sorted({tuple(trial.values) for trial in study.best_trials})
    for dots in axes.collections:
        on_front = {tuple(point) for point in dots.get_offsets().tolist()} <= set(front)
        dots.set(sizes=[22 if on_front else 14], facecolor=OURS if on_front else "0.7", edgecolor="none", zorder=3)
    axes.step(*zip(*front, strict=True), where="post", color=OURS, linewidth=1, zorder=2)
    handles = [_dot("Pareto front", linestyle="-", linewidth=1), _dot("other trial", color="0.7", markersize=3.5)]
    references = _references(study)
    for reference in (name for name in MARKS if name in references):
        handles.append(_mark(axes, *references[reference].values, reference))
    axes.margins(0.08)
    _percent(axes.xaxis)
    _percent(axes.yaxis)
    figure.legend(handles=handles, loc="outside upper left", ncols=2, handletextpad=0.5)
    return figure
