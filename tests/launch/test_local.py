"""Processes of this machine: turns, needs, and what others can see of jobs."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from benchmark.base.errors import UserError
from benchmark.launch import job_status
from benchmark.launch.base import State, read_job
from benchmark.launch.local import LocalLauncher
from tests.launch.processes import SAVING, finish, wait_for


def test_no_more_run_at_a_time_than_there_are_slots(job, tmp_path):
    launcher = LocalLauncher(2)
    ids = launcher.submit(
        [job(f"job {number}", "import time; time.sleep(0.3)") for number in range(5)]
    )
    together = []

    def count(statuses):
        together.append(sum(status.state == State.RUNNING for status in statuses.values()))

    assert all(status.succeeded for status in finish(launcher, ids, count))
    assert max(together) == 2


def test_one_failure_does_not_stop_the_others_and_says_how(job, tmp_path):
    launcher = LocalLauncher(1)
    jobs = [
        job("exits", "import sys; print('so be it'); sys.exit(3)"),
        job("killed", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
        job("missing", command=(str(tmp_path / "no-such-program"),)),
        job("good", "print('all right')"),
    ]
    exits, killed, missing, good = finish(launcher, launcher.submit(jobs))
    assert (exits.code, killed.code, good.code) == (3, -signal.SIGKILL, 0)
    assert exits.words == "ended with exit code 3" and "signal 9" in killed.words
    assert missing.state == State.NOT_STARTED and "no-such-program" in missing.words
    assert (tmp_path / "exits.txt").read_text() == "so be it\n"
    assert (tmp_path / "good.txt").read_text() == "all right\n"


def test_a_log_is_added_to(job, tmp_path):
    launcher = LocalLauncher(1)
    for _ in range(2):
        finish(launcher, launcher.submit([job("again", "print('once more')")]))
    assert (tmp_path / "again.txt").read_text() == "once more\n" * 2


def test_a_job_starts_after_those_that_it_needs(job, tmp_path):
    launcher = LocalLauncher(4)
    write = f"open({str(tmp_path / 'order')!r}, 'a').write"
    jobs = [
        job("third", f"{write}('3')", after=("second",)),
        job("second", f"{write}('2')", after=("first",)),
        job("first", f"import time; time.sleep(0.3); {write}('1')"),
    ]
    ids = launcher.submit(jobs)
    assert all(status.succeeded for status in finish(launcher, ids))
    assert (tmp_path / "order").read_text() == "123"
    # By id, of a job of an earlier submission.
    ids = launcher.submit([job("fourth", f"{write}('4')", after=(ids[0],))])
    assert finish(launcher, ids)[0].succeeded and (tmp_path / "order").read_text() == "1234"


def test_what_needs_a_failed_job_is_not_started_and_names_it(job, tmp_path):
    launcher = LocalLauncher(2)
    jobs = [
        job("fails", "raise SystemExit(7)"),
        job("needs it", "print('never')", after=("fails",)),
        job("needs that", "print('never')", after=("needs it",)),
        job("stands alone", "print('all right')"),
    ]
    _, direct, indirect, alone = finish(launcher, launcher.submit(jobs))
    for status in (direct, indirect):
        assert status.state == State.NOT_STARTED
        assert status.reason == "fails ended with exit code 7"
    assert alone.succeeded and not (tmp_path / "needs it.txt").exists()


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ({"a": ("b",), "b": ("a",)}, "in a circle"),
        ({"a": ("nothing",)}, "job a needs nothing, which was not submitted"),
    ],
)
def test_needs_that_cannot_be_met_are_refused(job, needs, said):
    launcher = LocalLauncher(1)
    with pytest.raises(UserError, match=said):
        launcher.submit([job(name, after=after) for name, after in needs.items()])
    assert not launcher.jobs


def test_two_jobs_of_one_name_are_refused(job):
    with pytest.raises(UserError, match="one name"):
        LocalLauncher(1).submit([job("a"), job("a")])


def test_another_process_asks_through_the_folder(job, tmp_path):
    folder = tmp_path / "run"
    launcher = LocalLauncher(1)
    ids = launcher.submit(
        [job("first", SAVING, folder=folder), job("second", folder=tmp_path / "other")]
    )
    launcher.poll(ids)
    record = read_job(folder)
    assert (record.launcher, record.id, record.name) == ("local", ids[0], "first")
    assert abs(record.submitted - time.time()) < 60
    code = (
        "import sys; from pathlib import Path; from benchmark.launch import job_status\n"
        "print(*(job_status(Path(folder)).words for folder in sys.argv[1:]), sep=', ')"
    )

    def asked() -> str:
        command = [sys.executable, "-c", code, str(folder), str(tmp_path / "other")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    wait_for(lambda: "up" in (tmp_path / "first.txt").read_text())
    assert asked() == "is running, is waiting"
    # Another launcher may also ask the job to stop.
    other = LocalLauncher(1)
    other.adopt(record)
    other.stop([record.id])
    other.stop([record.id])
    statuses = finish(launcher, ids)
    assert [status.code for status in statuses] == [130, 0]
    assert asked() == "was stopped, ended with exit code 0"
    assert (tmp_path / "first.txt").read_text() == "up\nsaved\n"


def test_a_process_id_that_another_program_got_is_not_the_job(tmp_path):
    this = psutil.Process()
    record = {
        "launcher": "local",
        "id": "1",
        "name": "a",
        "submitted": 0.0,
        "host": os.uname().nodename,
    }
    record |= {"submitter": [this.pid, this.create_time()], "pid": this.pid}
    for started, state in (
        (this.create_time(), State.RUNNING),
        (this.create_time() - 60, State.ENDED),
    ):
        (tmp_path / "job.json").write_text(json.dumps(record | {"started": started}))
        assert job_status(tmp_path).state == state
    del record["pid"]
    record["submitter"][1] -= 60
    (tmp_path / "job.json").write_text(json.dumps(record))
    assert "submitted it is gone" in job_status(tmp_path).words
    (tmp_path / "job.json").write_text(json.dumps(record | {"host": "elsewhere"}))
    assert job_status(tmp_path).state == State.UNKNOWN
    assert job_status(tmp_path / "nothing") is None
    (tmp_path / "job.json").write_text("[]")
    with pytest.raises(UserError, match="job.json is damaged"):
        job_status(tmp_path)


def test_the_job_of_another_process_is_not_written_over(job, tmp_path):
    first, second = LocalLauncher(1), LocalLauncher(1)
    ids = first.submit([job("first", SAVING, folder=tmp_path)])
    first.poll(ids)
    wait_for(lambda: "up" in (tmp_path / "first.txt").read_text())
    assert finish(second, second.submit([job("second", folder=tmp_path)]))[0].succeeded
    assert read_job(tmp_path).id == ids[0] and job_status(tmp_path).state == State.RUNNING
    first.stop(ids)
    finish(first, ids)
    third = second.submit([job("third", folder=tmp_path)])
    assert read_job(tmp_path).id == third[0]
