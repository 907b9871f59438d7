"""The importances of a search's parameters and their figure, with a warning for few trials."""

import dataclasses
from collections.abc import Mapping

import optuna
from matplotlib.figure import Figure
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.visualization import matplotlib as optuna_plots

from reports.figures import COLUMN, OURS, PUBLISHED
from reports.studies.searches import plots
from reports.studies.searches.trials import complete

ENOUGH = 50  # with fewer complete trials than this the picture has a warning


@dataclasses.dataclass(frozen=True)
class Importances:
    """How much of the variance of the value each parameter explains.

    Attributes:
        heading: what the value is.
        shares: parameter -> share, the largest first. It is empty if there are none.
        warning: what must stand beside them, or why there are none, or "".
    """

    heading: str
    shares: Mapping[str, float]
    warning: str


def importances(study: optuna.Study, heading: str) -> Importances:
    """Return the parameters' importances by fANOVA with a fixed seed, or why there are none."""
    trials = complete(study.get_trials(deepcopy=False))
    count = f"{len(trials)} complete trial{'s' * (len(trials) != 1)}"

    def none(why: str) -> Importances:
        return Importances(heading, {}, f"No importances from {count}: {why}.")

    if len(trials) < 2:
        return none("two are needed at least")
    if len({trial.values[0] for trial in trials}) < 2:
        return none("there is nothing to explain, since all values are equal")
    try:
        with plots.quiet():
            shares = get_param_importances(study, evaluator=_evaluator(), target=plots.value)
    except (ImportError, RuntimeError, ValueError) as error:
        return none(str(error).splitlines()[0].rstrip("."))
    if not sum(shares.values()) > 0:
        return none("no parameter explains anything")
    few = f"Only {count} (fewer than {ENOUGH}): the importances are rough, and their order may be"
    return Importances(heading, shares, f"{few} chance." if len(trials) < ENOUGH else "")


def _evaluator() -> FanovaImportanceEvaluator:
    return FanovaImportanceEvaluator(seed=0)


def figure(study: optuna.Study, known: Importances) -> Figure:
    """Return the shares as bars, with the warning in the picture itself."""
    axes = optuna_plots.plot_param_importances(
        study, evaluator=_evaluator(), target=plots.value, target_name=f"{known.heading} (%)"
    )
    drawn = axes.figure
    height = 0.9 + 0.22 * len(known.shares) + 0.3 * bool(known.warning)
    drawn.set_size_inches(COLUMN * 1.3, height)
    axes.get_legend().remove()
    plots.untitled(axes, "x")
    for bar in axes.patches:
        # Optuna's bars are 0.8 high.
        bar.set(facecolor=OURS, y=bar.get_y() + 0.1, height=0.6)
    for text in axes.texts:
        text.set(fontsize=7, x=text.get_position()[0] + 0.012)
    axes.set_xlim(0, 1.14 * max(known.shares.values()))
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel("")
    axes.set_xlabel(f"share of the variance of {known.heading} (fANOVA)")
    if known.warning:
        head, _, tail = known.warning.partition(": ")
        drawn.suptitle(f"{head}:\n{tail}", fontsize=7, color=PUBLISHED, x=0.01, ha="left")
    return drawn
