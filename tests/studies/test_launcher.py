"""Launches of searches: what they refuse, and how they end."""

import os
import signal
import subprocess
import sys
import time

import pytest
from optuna.trial import TrialState

from benchmark.base.errors import UserError
from benchmark.launch.base import Job
from benchmark.runs.rundir import RunDir, all_runs
from studies import launcher, study
from studies.trials import (
    existing,
    finished,
    open_study,
    queue,
)
from tests.studies.searches import QUIET, command, launch, prepared, started_search, url

HOLD = """
import sys
from pathlib import Path
from benchmark.base.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_launch_waits_for_the_first(preset, tmp_path, monkeypatch):
    found, runs = prepared(preset, tmp_path, trials=4)
    fewer = started_search(preset, tmp_path, trials=2)
    lock = study.folder(runs, found.name) / ".lock"
    said = []

    def tell(message, **_):
        said.append(message)
        assert study.load(runs, found.name).study.trials == 4, "it has changed nothing yet"
        holder.stdin.close()

    def its_turn(*_):
        raise UserError("its turn has come")

    monkeypatch.setattr(QUIET, "print", tell)
    monkeypatch.setattr(launcher, "open_study", its_turn)
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="its turn has come"):
            launch(fewer, runs)
    assert len(said) == 1 and "waits for it" in said[0]
    study.save(runs, found)


def test_fewer_trials_than_are_finished_are_refused(finished_search):
    found, runs, _ = finished_search
    fewer = found.model_copy(update={"study": found.study.model_copy(update={"trials": 3})})
    with pytest.raises(UserError, match="4 finished trials.*--trials 4"):
        launch(fewer, runs)
    study.save(runs, found)


def test_a_search_may_be_the_first_thing_in_a_folder(preset, tmp_path, monkeypatch, capsys):
    """The sync starts before anything has made the folder of the runs."""
    monkeypatch.setattr(
        launcher, "run", lambda *_: (_ for _ in ()).throw(UserError("so far and no further"))
    )
    runs = tmp_path / "not" / "there" / "yet"
    mine = started_search(preset, tmp_path)
    assert (
        command(
            "study",
            "run",
            mine.origin,
            "--preset",
            preset,
            "--runs",
            runs,
            "--out",
            tmp_path / "out",
        )
        == 2
    )
    assert "so far and no further" in capsys.readouterr().err and (runs / "sync.log").exists()


@pytest.mark.faults
@pytest.mark.slow
def test_two_workers_one_of_which_is_killed_make_up_the_budget(preset, tmp_path, monkeypatch):
    found, runs = prepared(preset, tmp_path, trials=4)
    monkeypatch.setattr(queue, "GRACE_SECONDS", 6)
    monkeypatch.setattr(queue, "HEARTBEAT_SECONDS", 1)
    note, killed = launcher.note, []

    def note_and_kill(runs, started, trials, cells):
        note(runs, started, trials, cells)
        if killed:
            return
        for trial in existing(found, url(runs)).trials:
            # The first one, once it trains.
            key, state = trial.user_attrs.get("key"), trial.state
            if state == TrialState.RUNNING and key and RunDir(runs / key).metrics():
                killed.append(trial.number)
                os.kill(trial.user_attrs["pid"], signal.SIGKILL)
                return

    monkeypatch.setattr(launcher, "note", note_and_kill)
    ended = launch(found, runs, slots=2)
    done = existing(found, url(runs))
    assert (ended.state, ended.complete, finished(done.trials)) == ("complete", 4, 4)
    dead = done.trials[killed[0]]
    assert dead.state == TrialState.FAIL
    assert RunDir(runs / dead.user_attrs["key"]).status().state == "done"
    retried = [
        trial
        for trial in done.trials
        if trial.user_attrs.get("key") == dead.user_attrs["key"]
        and trial.state == TrialState.COMPLETE
    ]
    assert len(retried) == 1 and retried[0].params == dead.params
    # Every job took a trial of its own, and the launcher knew which.
    jobs = [trial.user_attrs["job"] for trial in done.trials]
    assert len(set(jobs)) == len(jobs) and all(job.startswith(found.name) for job in jobs)


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_search_whose_workers_fail_is_given_up(preset, tmp_path, monkeypatch):
    """Nobody watches a search: it says why it stops, in the words of a trial where one has some."""
    found, runs = prepared(preset, tmp_path, trials=9)
    monkeypatch.setattr(launcher, "POLL_SECONDS", 0.05)
    said = [None, None, "the loss became nan"]

    def failing_job(name, **fields):
        if reason := said.pop(0):
            there = open_study(found, url(runs))
            trial = there.ask()
            trial.set_user_attr("reason", reason)
            there.tell(trial, state=TrialState.FAIL)
        return Job(name, (sys.executable, "-c", "raise SystemExit(3)"), tmp_path / "log.txt")

    monkeypatch.setattr(launcher, "trial_job", failing_job)
    ended = launch(found, runs)
    assert ended.state == "failing" and not said
    assert "3 workers failed" in ended.reason and "the loss became nan" in ended.reason


@pytest.mark.faults
@pytest.mark.slow
def test_stopping_a_search_loses_nothing(preset, tmp_path):
    found, runs = prepared(preset, tmp_path, trials=2)
    command = [
        sys.executable,
        "-m",
        "benchmark.cli",
        "study",
        "resume",
        found.name,
        "--runs",
        str(runs),
    ]
    command += ["--no-sync"]
    command += ["--jobs", "1", "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not any(run.metrics() for run in all_runs(runs)) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "goes on from here" in said
    trials = existing(found, url(runs)).trials
    assert sum(trial.state == TrialState.WAITING for trial in trials) == 2
    whole = subprocess.run(command, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    done = existing(found, url(runs))
    assert finished(done.trials) == 2
