"""Optuna's part of a search. `studies.launcher` launches the trials.

A trial is a run. Its parameters make a spec, the spec's key names the directory, and trial and run
name each other. So a trial that was interrupted or killed is retried as a new trial of the same
parameters, which goes on in the same directory. A spec that has run before is not trained again.

    storage   opens Optuna's storage and the study in it
    queue     which trials remain, which are dead, and which are tried again
    trial     what a worker does: it takes the next trial and makes the run
"""

from studies.trials.queue import (
    Survey,
    TrialSummary,
    finished,
    reap,
    remaining,
    retry_failed,
    survey,
)
from studies.trials.storage import (
    BASELINE,
    PAPER,
    default_storage,
    existing,
    open_study,
    readable_errors,
)
from studies.trials.trial import run_trial, suggest

__all__ = [
    "BASELINE",
    "PAPER",
    "Survey",
    "TrialSummary",
    "default_storage",
    "existing",
    "finished",
    "open_study",
    "readable_errors",
    "reap",
    "remaining",
    "retry_failed",
    "run_trial",
    "suggest",
    "survey",
]
