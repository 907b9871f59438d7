"""What can be said of a search's trials, such as their order, states, runs and parameters."""

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
TAKEN_UP = "interrupted and taken up"


def trials_of(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials of a study that made a run or will make one."""
    # The others began when the budget was full already.
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if "surplus" not in trial.user_attrs]


def complete(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that ended with a value. Pruned and failed ones are no results."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


def ranked(trials: Sequence[FrozenTrial]) -> tuple[FrozenTrial, ...]:
    """Return the complete trials by the first objective, then by the second, then by number."""
    return tuple(
        sorted(
            complete(trials),
            key=lambda trial: (*(-value for value in trial.values), trial.number),
        )
    )


def key_of(trial: FrozenTrial) -> str:
    """Return the key of a trial's run, or "" if it has none yet."""
    return trial.user_attrs.get("key", "")


def parameters(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's parameters. A trial that is waiting has those that are fixed for it."""
    values = trial.params or trial.system_attrs.get("fixed_params", {})
    # 13 steps of 0.05 are to be shown as 0.65.
    return {
        name: round(value, 10) if isinstance(value, float) else value
        for name, value in values.items()
    }


# --- states in words ------------------------------------------------------------------------------


def counted(trials: Sequence[FrozenTrial], ended: bool = True) -> str:
    """Return in words how many trials are in each state.

    Args:
        trials: all trials.
        ended: whether those that ended are counted. With False all others are, and the result is ""
            if there are none.
    """
    words = [
        STATES[trial.state] if taken_up(trial, trials) is None else TAKEN_UP for trial in trials
    ]
    known = [STATES[state] for state in ENDED] if ended else ["running", "waiting", TAKEN_UP]
    counts = [
        f"{words.count(word)} {word}" for word in known if word in words or word == "complete"
    ]
    return ", ".join(counts)


def looked_at(trials: Sequence[FrozenTrial]) -> int:
    """Return how many trials the best one was chosen from, which are those that ended.

    A trial that was interrupted counts once, however many trials went on with its run.
    """
    return sum(trial.state in ENDED and taken_up(trial, trials) is None for trial in trials)


def taken_up(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int | None:
    """Return which trial went on with the run of one that was interrupted, or None."""
    if trial.state != TrialState.FAIL or not key_of(trial):
        return None
    later = (other for other in trials if other.number > trial.number)
    return next((other.number for other in later if key_of(other) == key_of(trial)), None)


def reason(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> str:
    """Return why a trial failed, or "" for other trials."""
    if trial.state != TrialState.FAIL:
        return ""
    if given := trial.user_attrs.get("reason"):
        return " ".join(given.split())
    if (later := taken_up(trial, trials)) is not None:
        return f"interrupted; trial {later} went on with its run"
    return "none given (its worker died)"


def reasons(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return why trials failed, one sentence each."""
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    return [f"Trial {trial.number} failed: {reason(trial, trials)}." for trial in failed]
