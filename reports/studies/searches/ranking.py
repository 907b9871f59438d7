"""The tables of a search's trials, one of complete trials by value and one of the others."""

from collections.abc import Sequence
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from reports.layout import numbers
from reports.layout.block import Block
from reports.studies.searches.results import Results, heading
from reports.studies.searches.trials import STATES, key_of, parameters, reason, trials_of
from studies.study import Started


def ranked_block(results: Results, terminal: bool = False) -> Block:
    """Return the complete trials, the best first.

    Args:
        results: the trials and runs of the search.
        terminal: whether it is for a terminal, where long headings take several lines.
    """
    names = [*results.search.space]
    measured = [heading(results.started, name) for name in results.search.objectives]
    lines = [
        (
            str(place),
            str(trial.number),
            _roles(results, trial),
            *map(numbers.number, trial.values),
            *_cells(trial, names),
        )
        for place, trial in enumerate(results.ranked, 1)
    ]
    header = _header(("rank", "trial", "what", *measured, *names), terminal)
    return Block(f"Complete trials by {measured[0]}", "", header, lines, names=3)


def _roles(results: Results, trial: FrozenTrial) -> str:
    roles = [role for role, played in results.roles.items() if played.number == trial.number]
    return ", ".join(roles + ["Pareto"] * (trial.number in results.front))


def other_block(
    trials: Sequence[FrozenTrial], names: Sequence[str], terminal: bool = False
) -> Block | None:
    """Return the trials that are no results, or None if there are none.

    Args:
        trials: all trials.
        names: of the parameters.
        terminal: as in `ranked_block`.
    """
    lines = [
        (
            str(trial.number),
            STATES[trial.state],
            str(max(trial.intermediate_values, default=numbers.NOTHING)),
            *_cells(trial, names),
        )
        for trial in trials
        if trial.state != TrialState.COMPLETE
    ]
    header = _header(("trial", "state", "last epoch", *names), terminal)
    return Block("Trials that are no results", "", header, lines, names=2) if lines else None


def _cells(trial: FrozenTrial, names: Sequence[str]) -> list[str]:
    values = parameters(trial)
    return [_short(values[name]) if name in values else numbers.NOTHING for name in names]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _header(names: Sequence[str], terminal: bool) -> tuple[str, ...]:
    return tuple(
        name.replace("_", "_\n").replace(" ", "\n") if terminal else name for name in names
    )


def csv(started: Started, study: optuna.Study) -> str:
    """Return one row per trial as CSV.

    A row holds number, state, reference, values as fractions (of complete trials alone), last
    reported epoch, every parameter, run key, reason of a failure, and seconds.
    """
    names = [*started.study.space]
    objectives = started.study.objectives
    split = next(iter(started.bases.values())).selection.split
    trials = trials_of(study)
    rows = []
    for trial in trials:
        is_complete = trial.state == TrialState.COMPLETE
        values = trial.values if is_complete else [None] * len(objectives)
        begun = trial.datetime_start
        ended = trial.datetime_complete
        chosen = parameters(trial)
        rows.append(
            [
                trial.number,
                STATES[trial.state],
                trial.user_attrs.get("reference", ""),
                *("" if value is None else f"{value:.6f}" for value in values),
                max(trial.intermediate_values, default=""),
                *(_exact(chosen.get(name, "")) for name in names),
                key_of(trial),
                reason(trial, trials),
                f"{(ended - begun).total_seconds():.1f}" if begun and ended else "",
            ]
        )
    measured = [f"{split}_{name}" for name in objectives]
    header = ["trial", "state", "reference", *measured, "last_epoch", *names]
    header += ["run", "reason", "seconds"]
    return pd.DataFrame(rows, columns=header, dtype=object).to_csv(index=False, lineterminator="\n")


def _exact(value: Any) -> Any:
    return f"{value:.10g}" if isinstance(value, float) else value
