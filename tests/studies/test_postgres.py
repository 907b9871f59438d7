"""A search whose trials lie in PostgreSQL."""

import time

import optuna
import pytest
from optuna.trial import TrialState

from studies.trials import (
    finished,
    open_study,
    queue,
    reap,
    run_trial,
)
from tests import servers
from tests.studies.searches import FAST, QUIET, places, prepared


@pytest.fixture
def postgres():
    with servers.postgres() as url:
        yield url


@pytest.mark.cluster
def test_a_search_in_postgresql(preset, tmp_path, monkeypatch, postgres):
    found, runs = prepared(preset, tmp_path, trials=2)
    study_there = open_study(found, postgres)
    with pytest.warns(UserWarning, match="Heartbeat"):
        dead = study_there.ask()  # a worker that dies before its heartbeat has begun
    monkeypatch.setattr(queue, "GRACE_SECONDS", 1)
    time.sleep(1.1)
    reap(study_there)
    for _ in range(2):
        run_trial(found, postgres, 2, places(found, runs), FAST, QUIET)
    done = optuna.load_study(study_name=found.name, storage=postgres)
    assert done.trials[dead.number].state == TrialState.FAIL
    assert finished(done.trials) == 2
    assert {trial.user_attrs["reference"] for trial in done.trials} == {"paper", "baseline"}
