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
RETRIES = 3  # of a trial whose worker died; then it stays failed until the next launch
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Keep Optuna quiet.

    Heartbeat, retry and metric names have been "experimental" for years, and are tested here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


# --- where a search stands ------------------------------------------------------------------------


def finished(trials: Sequence[FrozenTrial]) -> int:
    """Return how many trials count against the budget: completed and pruned ones."""
    return sum(trial.state in FINISHED for trial in trials)


def remaining(trials: Sequence[FrozenTrial], budget: int) -> int:
    """Return how many trials are to be begun: those neither finished nor under way."""
    return budget - finished(trials) - sum(trial.state == TrialState.RUNNING for trial in trials)


@dataclasses.dataclass(frozen=True)
class TrialSummary:
    """What a launcher needs to know of a trial.

    Attributes:
        number: of the trial. state: `waiting`, `running`, `complete`, `pruned` or `fail`. over:
            whether that is final.
        key: of its run, and job: name of the job that took it; empty where there is none yet.
        values: of the objectives, as fractions. reason: why it failed, in the run's words.
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
        trials: all of them, by number. finished, complete: how many count against the budget, and
            have a value.
        remaining: how many are to be begun.
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
        deaths: how many workers have died of it.
    """
    about = {name: value for name, value in trial.user_attrs.items() if name == "reference"}
    fixed = {
        name: trial.system_attrs[name] for name in ("fixed_params",) if name in trial.system_attrs
    }
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**about, "deaths": deaths},
            system_attrs=fixed,
        )
    )


def after_death(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial whose worker died again, unless it has cost too many."""
    deaths = trial.user_attrs.get("deaths", 0) + 1
    if deaths <= RETRIES:
        requeue(study, trial, deaths)


def reap(study: optuna.Study) -> None:
    """Fail the trials whose worker died, and queue them again.

    A worker writes its process id as soon as its heartbeat has begun. One that was killed before
    left no heartbeat to miss.
    """
    with without_warnings():
        fail_stale_trials(study)
    grace = timedelta(seconds=GRACE_SECONDS)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if "pid" not in trial.user_attrs and datetime.now() - trial.datetime_start > grace:
            study.tell(trial.number, state=TrialState.FAIL)
            after_death(study, trial)


def retry_failed(study: optuna.Study) -> None:
    """Queue every failed trial again that no later one took up: a launch tries all again."""
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.state == TrialState.FAIL and (set_of := _parameters(trial)):
            if not any(
                _parameters(other) == set_of for other in trials if other.number > trial.number
            ):
                requeue(study, trial)


def _parameters(trial: FrozenTrial) -> dict[str, Any]:
    return trial.params or trial.system_attrs.get("fixed_params", {})
