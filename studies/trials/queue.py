"""Which trials of a search remain, which are dead, and which are tried again."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 30  # a running trial that was silent for longer is taken for dead
RETRIES = 3  # of a trial whose worker died, which then stays failed until the next launch
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Keep Optuna quiet.

    Heartbeat, retry and metric names have been "experimental" for years, and the tests cover them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


# --- where a search stands ------------------------------------------------------------------------


def finished(trials: Sequence[FrozenTrial]) -> int:
    """Return how many trials count against the budget, which are completed and pruned ones."""
    return sum(trial.state in FINISHED for trial in trials)


def remaining(trials: Sequence[FrozenTrial], budget: int) -> int:
    """Return how many trials are still to be begun to use up the budget."""
    return budget - finished(trials) - sum(trial.state == TrialState.RUNNING for trial in trials)


@dataclasses.dataclass(frozen=True)
class TrialSummary:
    """What a launcher needs to know of a trial.

    Attributes:
        number: of the trial.
        state: `waiting`, `running`, `complete`, `pruned` or `fail`.
        over: whether the state is final.
        key: of its run, or "" if it has none yet.
        job: name of the job that took it, or "" if none has.
        values: of the objectives, as fractions.
        reason: why it failed, in the run's words.
    """

    number: int
    state: str
    over: bool
    key: str
    job: str
    values: tuple[float, ...]
    reason: str


@dataclasses.dataclass(frozen=True)
class Survey:
    """Where a search stands.

    Attributes:
        trials: all of them, by number.
        finished: how many count against the budget.
        complete: how many have a value.
        remaining: how many are still to be begun.
    """

    trials: tuple[TrialSummary, ...]
    finished: int
    complete: int
    remaining: int


def survey(study: optuna.Study, budget: int) -> Survey:
    """Return where a search stands."""
    trials = study.get_trials(deepcopy=False)
    summaries = tuple(
        TrialSummary(
            number=trial.number,
            state=trial.state.name.lower(),
            over=trial.state.is_finished(),
            key=trial.user_attrs.get("key", ""),
            job=trial.user_attrs.get("job", ""),
            values=tuple(trial.values or ()),
            reason=trial.user_attrs.get("reason", ""),
        )
        for trial in trials
    )
    complete = sum(trial.state == TrialState.COMPLETE for trial in trials)
    return Survey(summaries, finished(trials), complete, remaining(trials, budget))


# --- trying again ---------------------------------------------------------------------------------


def requeue(study: optuna.Study, trial: FrozenTrial, deaths: int = 0) -> None:
    """Queue a new trial of the same parameters, which goes on in the same run directory.

    Args:
        study: the search.
        trial: the trial that ended.
        deaths: number of workers that died of it.
    """
    user_attrs = {"deaths": deaths}
    if "reference" in trial.user_attrs:
        user_attrs["reference"] = trial.user_attrs["reference"]
    # Optuna keeps the parameters of a trial that was queued by hand here.
    system_attrs = {}
    if "fixed_params" in trial.system_attrs:
        system_attrs["fixed_params"] = trial.system_attrs["fixed_params"]
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=user_attrs,
            system_attrs=system_attrs,
        )
    )


def after_death(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial whose worker died again, unless too many workers have died of it."""
    deaths = trial.user_attrs.get("deaths", 0) + 1
    if deaths <= RETRIES:
        requeue(study, trial, deaths)


def reap(study: optuna.Study) -> None:
    """Fail the trials whose worker died, and queue them again.

    Optuna knows a dead worker by a heartbeat that stopped. A worker writes its process id as soon
    as its heartbeat has begun. So one without a process id was killed before, and has to be found
    by its time.
    """
    with without_warnings():
        fail_stale_trials(study)
    grace = timedelta(seconds=GRACE_SECONDS)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if "pid" not in trial.user_attrs and datetime.now() - trial.datetime_start > grace:
            study.tell(trial.number, state=TrialState.FAIL)
            after_death(study, trial)


def retry_failed(study: optuna.Study) -> None:
    """Queue every failed trial again unless a later one has the same parameters."""
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        parameters = _parameters(trial)
        if trial.state != TrialState.FAIL or not parameters:
            continue
        later = [other for other in trials if other.number > trial.number]
        if not any(_parameters(other) == parameters for other in later):
            requeue(study, trial)


def _parameters(trial: FrozenTrial) -> dict[str, Any]:
    return trial.params or trial.system_attrs.get("fixed_params", {})
