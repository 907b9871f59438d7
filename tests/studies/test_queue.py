"""The queue of a search: who takes a trial, and what becomes of those whose workers die."""

import subprocess
import sys

import pytest
from optuna.trial import TrialState

from benchmark.base.errors import UserError
from studies.trials import (
    existing,
    open_study,
)
from studies.trials.queue import RETRIES, after_death
from tests.studies.searches import TRIAL_PAPER, prepared, url


def test_two_workers_never_take_the_same_trial(preset, tmp_path):
    """SQLite gives a queued trial to both of two processes that ask at once."""
    found, runs = prepared(preset, tmp_path, trials=8)
    there = open_study(found, url(runs))
    for weight in (0.1, 0.2, 0.3, 0.4, 0.6, 0.7):
        there.enqueue_trial({**TRIAL_PAPER, "distill_weight": weight})
    code = (
        "import sys; from pathlib import Path; from benchmark.runs.execution import Places\n"
        "from studies import study; from studies.trials import default_storage, trial\n"
        "started, runs = study.load(Path(sys.argv[1]), sys.argv[2]), Path(sys.argv[1])\n"
        "places = Places(started.data, started.images, runs)\n"
        "value = lambda started, its, *_: trial.suggest(started.study, its)['distill_weight']\n"
        "trial.objective = value\n"
        "for _ in range(4): trial.run_trial(started, default_storage(runs), 8, places, None, None)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(runs), found.name]) for _ in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    trials = existing(found, url(runs)).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 8
    assert sorted(trial.value for trial in trials) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_a_trial_that_kills_its_workers_is_given_up(preset, tmp_path):
    found, runs = prepared(preset, tmp_path)
    there = open_study(found, url(runs))
    for death in range(RETRIES + 1):
        trial = next(trial for trial in there.trials if trial.state == TrialState.WAITING)
        assert trial.user_attrs.get("deaths", 0) == death
        there._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        others = [other for other in there.trials if other.state == TrialState.WAITING]
        for other in others if death == 0 else ():
            there._storage.set_trial_state_values(other._trial_id, TrialState.FAIL)
        after_death(there, there.trials[trial.number])
    assert not [trial for trial in there.trials if trial.state == TrialState.WAITING]


def test_an_unusable_storage_is_one_sentence(preset, tmp_path):
    found, runs = prepared(preset, tmp_path)
    for address in (
        "sqlite:////nowhere/at/all.db",
        "nonsense",
        "sqlite://",
        "postgresql+psycopg://me:secret@localhost:1/none",
    ):
        with pytest.raises(UserError, match="No run is lost: put it right|is no file") as said:
            open_study(found, address)
        assert "secret" not in str(said.value)
