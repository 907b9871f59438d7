"""How jobs of this machine are stopped."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from benchmark.base.errors import UserError
from benchmark.launch import local
from benchmark.launch.base import State
from benchmark.launch.local import LocalLauncher
from benchmark.launch.watch import follow
from tests.launch.processes import SAVING, SLEEPING, finish, wait_for


def test_stop_asks_once_and_never_starts_the_rest(job, tmp_path):
    launcher = LocalLauncher(1)
    ids = launcher.submit([job("saves", SAVING), job("waits"), job("needs", after=("saves",))])
    launcher.poll(ids)
    wait_for(lambda: "up" in (tmp_path / "saves.txt").read_text())
    for _ in range(3):
        launcher.stop(ids)
    saves, waits, needs = finish(launcher, ids)
    assert saves.code == 130 and saves.stopped and saves.asked
    assert (tmp_path / "saves.txt").read_text() == "up\nsaved\n"
    for status in (waits, needs):
        assert status.state == State.NOT_STARTED and status.stopped


def test_a_job_that_does_not_stop_is_killed_with_its_children(job, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "GRACE_SECONDS", 0.2)
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + SLEEPING
    parent = (
        "import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {deaf!r}], start_new_session=True)\n"
        "print(child.pid, flush=True); child.wait()"
    )
    launcher = LocalLauncher(1)
    ids = launcher.submit([job("deaf", parent)])
    launcher.poll(ids)
    wait_for(lambda: "up" in (tmp_path / "deaf.txt").read_text())
    child = psutil.Process(int((tmp_path / "deaf.txt").read_text().split()[0]))
    launcher.stop(ids)
    (status,) = finish(launcher, ids)
    assert status.code == -signal.SIGKILL and status.asked
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_loop_hands_a_signal_on_once_and_waits(job, tmp_path, number):
    """A process that follows two jobs is asked to stop: both save their state before it ends."""
    code = f"""
import sys
from pathlib import Path
from benchmark.launch.base import Job
from benchmark.launch.local import LocalLauncher
from benchmark.launch.watch import follow
folder = Path({str(tmp_path)!r})
jobs = [Job(name, (sys.executable, "-c", {SAVING!r}), folder / f"{{name}}.txt") for name in "abc"]
launcher = LocalLauncher(2)
ids = launcher.submit(jobs)
statuses = follow(launcher, ids, lambda *_: None, 0.05)
print([statuses[id].words for id in ids])
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        logs = [tmp_path / "a.txt", tmp_path / "b.txt"]
        wait_for(lambda: all(log.exists() and "up" in log.read_text() for log in logs))
        process.send_signal(number)
        time.sleep(0.01)
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert said.count("was stopped") == 2 and "not started" in said
    assert [log.read_text() for log in logs] == ["up\nsaved\n"] * 2


def test_an_error_in_the_loop_stops_the_jobs(job, tmp_path):
    launcher = LocalLauncher(1)
    ids = launcher.submit([job("saves", SAVING)])

    def fail(statuses, _):
        log = tmp_path / "saves.txt"
        wait_for(lambda: log.exists() and "up" in log.read_text())
        raise UserError("so far and no further")

    with pytest.raises(UserError):
        follow(launcher, ids, fail, 0.02)
    wait_for(lambda: launcher.poll(ids)[ids[0]].over)
    assert launcher.poll(ids)[ids[0]].stopped


def test_the_loop_goes_on_while_more_may_come(job):
    launcher, left = LocalLauncher(1), [3]
    submitted = []

    def more(statuses, _):
        if not left[0]:
            return None
        if all(status.over for status in statuses.values()):
            left[0] -= 1
            submitted.extend(launcher.submit([job(f"job {left[0]}")]))
            return submitted[-1:]
        return []

    statuses = follow(launcher, [], more, 0.02)
    assert list(statuses) == submitted and len(submitted) == 3
    assert all(status.succeeded for status in statuses.values())
