"""Processes of this machine: turns, needs, stops, GPUs, and what others can see of jobs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmark.base.errors import UserError
from benchmark.launch import LAUNCHERS, gpus, job_status, local
from benchmark.launch.base import Job, JobStatus, Launcher, Resources, State, read_job
from benchmark.launch.gpus import Gpus, visible_gpus
from benchmark.launch.local import LocalLauncher
from benchmark.launch.watch import follow

SLEEPING = "import time; print('up', flush=True); time.sleep(60)"
SAVING = """
import signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(130)
signal.signal(signal.SIGINT, save)
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def job(tmp_path):
    """Return a function that makes a job of a Python program."""

    def make(name: str, code: str = "", **fields) -> Job:
        command = fields.pop("command", (sys.executable, "-c", code))
        log = fields.pop("log", tmp_path / f"{name}.txt")
        return Job(name, command, log, **fields)

    return make


def wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


def finish(launcher: Launcher, ids: list[str], watch=lambda statuses: None) -> list[JobStatus]:
    """Return how jobs ended, in order."""
    statuses = follow(launcher, ids, lambda statuses, _: watch(statuses), 0.02)
    return [statuses[id] for id in ids]


def running(launcher: Launcher, ids: list[str]) -> int:
    return sum(status.state == State.RUNNING for status in launcher.poll(ids).values())


# --- turns and needs ------------------------------------------------------------------------------


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


# --- stopping -------------------------------------------------------------------------------------


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


# --- what others see ------------------------------------------------------------------------------


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


# --- GPUs -----------------------------------------------------------------------------------------

UUIDS = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6, MIG-b2f4ad12-0f2c-5b1e-a3a7-d2f33f5d0f4f"


@pytest.mark.parametrize(
    ("listed", "files", "names"),
    [
        ("0,1", [], ("0", "1")),
        ("3,1", [], ("3", "1")),
        (UUIDS, [], tuple(UUIDS.split(", "))),
        ("", ["nvidia0"], ()),
        ("-1", ["nvidia0"], ()),
        ("0,-1,1", ["nvidia0", "nvidia1"], ("0",)),
        ("0,7,1", ["nvidia0", "nvidia1"], ("0",)),
        ("0,0", ["nvidia0"], ()),
        ("NoDevFiles", [], ()),
        (None, ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], ("0", "1")),
        (None, [], ()),
    ],
)
def test_gpus_are_those_that_the_variable_names(listed, files, names, tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    for file in files:
        (tmp_path / file).touch()
    if listed is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus() == names


SEEN = "import os; print(os.environ['CUDA_VISIBLE_DEVICES']); import time; time.sleep(0.3)"


def test_no_gpu_is_handed_out_twice(job, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUIDS)
    launcher = LocalLauncher(4)
    ids = launcher.submit([job(f"{n}", SEEN, resources=Resources(gpus=1)) for n in range(4)])
    together = []
    finish(launcher, ids, lambda _: together.append(running(launcher, ids)))
    seen = [(tmp_path / f"{n}.txt").read_text().strip() for n in range(4)]
    assert max(together) == 2 and sorted(seen) == sorted(UUIDS.split(", ") * 2)
    assert set(seen[:2]) == set(UUIDS.split(", "))


def test_jobs_of_a_share_are_on_one_card_together(job, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    launcher = LocalLauncher(8)
    ids = launcher.submit([job(f"{n}", SEEN, resources=Resources(gpus=1 / 3)) for n in range(5)])
    together = []
    finish(launcher, ids, lambda _: together.append(running(launcher, ids)))
    assert max(together) == 3
    assert {(tmp_path / f"{n}.txt").read_text() for n in range(5)} == {"5\n"}


def test_a_job_without_gpus_sees_none(job, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    launcher = LocalLauncher(2)
    jobs = [job("cpu", SEEN), job("both", SEEN, resources=Resources(gpus=2))]
    finish(launcher, launcher.submit(jobs))
    assert (tmp_path / "cpu.txt").read_text() == "\n"
    assert (tmp_path / "both.txt").read_text() == "0,1\n"


def test_cards_are_taken_whole_or_shared():
    cards = Gpus(["a", "b"])
    half = cards.take(0.5)
    assert half == ("a",) and cards.take(1) == ("b",) and cards.take(1) is None
    cards.give_back(("b",), 1)
    assert cards.take(2) is None
    cards.give_back(half, 0.5)
    assert cards.take(2) == ("a", "b") and cards.take(0) == ()


@pytest.mark.parametrize(("listed", "wanted"), [("", 1), ("-1", 0.5), ("0,1", 3)])
def test_more_gpus_than_there_are_is_refused(job, monkeypatch, listed, wanted):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    launcher = LocalLauncher(1)
    with pytest.raises(
        UserError, match=f"job big asks for {wanted} GPUs and there are .*--device cpu"
    ):
        launcher.submit([job("small"), job("big", resources=Resources(gpus=wanted))])
    assert not launcher.jobs


@pytest.mark.parametrize("wanted", [-1, 1.5])
def test_impossible_numbers_of_gpus_are_refused(wanted):
    with pytest.raises(UserError, match="GPUs"):
        Resources(gpus=wanted)


# --- the registry ---------------------------------------------------------------------------------

TOY = '''
from benchmark.launch.base import JobStatus, Launcher, State

RISBENCH = {"launchers": {"dry": "DryRun"}}


class DryRun(Launcher):
    """Says of every job that it has ended well."""

    name = "dry"
    outlives = True
    gpus = 0

    def __init__(self, slots):
        self.slots, self.asked = slots, []

    def submit(self, jobs):
        return [job.name for job in jobs]

    def poll(self, ids):
        return {id: JobStatus(State.ENDED, 0) for id in ids}

    def stop(self, ids):
        self.asked += ids

    def adopt(self, record):
        pass
'''


def test_a_launcher_of_a_plugin_is_used_like_ours(job, tmp_path, monkeypatch):
    plugin = tmp_path / "toy.py"
    plugin.write_text(TOY)
    monkeypatch.setenv("RISBENCH_PLUGINS", str(plugin))
    assert LAUNCHERS.names() == ["dry", "local"]
    launcher = LAUNCHERS.get("dry")(slots=3)
    ids = launcher.submit([job("a", "raise SystemExit(1)"), job("b")])
    assert all(status.succeeded for status in finish(launcher, ids))
    assert LAUNCHERS.get("local") is LocalLauncher
    with pytest.raises(UserError, match="launcher 'locl' is not known: did you mean local"):
        LAUNCHERS.get("locl")


def test_the_registry_knows_names_without_importing_what_they_name():
    code = (
        "import sys; from benchmark.launch import LAUNCHERS\n"
        "assert 'local' in LAUNCHERS.names() and 'benchmark.launch.local' not in sys.modules\n"
        "import benchmark.launch.outcomes, benchmark.launch.local, benchmark.launch.jobs\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
