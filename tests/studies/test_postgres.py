"""A search whose trials lie in PostgreSQL."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

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
from tests.studies.searches import FAST, QUIET, places, prepared


@pytest.fixture
def postgres():
    """Start a PostgreSQL server of its own on a socket and return its URL."""
    pytest.importorskip("psycopg")
    if not (shutil.which("initdb") and shutil.which("pg_ctl")):
        pytest.skip("no PostgreSQL server is installed here")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    user = "postgres" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
    if user:
        shutil.chown(folder, user)

    def command(*parts):
        subprocess.run(
            parts,
            user=user,
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    data, options = str(folder / "data"), f"-c listen_addresses= -k {folder}"
    command("initdb", "-D", data, "-U", "ris", "-A", "trust", "--no-sync")
    command("pg_ctl", "-D", data, "-o", options, "-w", "start")
    yield f"postgresql+psycopg://ris@/postgres?host={folder}"
    command("pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder)


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
