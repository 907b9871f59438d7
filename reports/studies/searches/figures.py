"""All figures of a search, as PNG and PDF. The same study gives the same bytes."""

from collections.abc import Sequence

import optuna

from reports.figures import files
from reports.studies.searches import history, importances, parallel, pareto, plots, slices
from reports.studies.searches.importances import Importances
from reports.studies.searches.trials import complete


def draw(
    study: optuna.Study, known: Importances, headings: Sequence[str], unused: Sequence[str]
) -> dict[str, bytes]:
    """Return file name -> content of all figures that a study with complete trials has.

    Args:
        study: the search.
        known: its importances.
        headings: what the objectives are.
        unused: parameters that count for nothing in a trial that is the baseline.
    """
    first = headings[0]
    contents = {}
    with plots.drawing():
        contents |= files("history", history.figure(study, first))
        if any(trial.params for trial in complete(study.get_trials(deepcopy=False))):
            contents |= files("parallel", parallel.figure(study, first))
            contents |= files("slices", slices.figure(study, first, unused))
        if known.shares:
            contents |= files("importances", importances.figure(study, known))
        if len(headings) == 2:
            contents |= files("pareto", pareto.figure(study, [*headings]))
    return contents
