"""A forked job is what a process of its own would be, and the server is nothing to rely on."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from benchmark.base.locks import is_locked
from benchmark.launch import forked, local
from benchmark.launch.base import State, read_job
from benchmark.launch.jobs import PYTHON
from benchmark.launch.local import LocalLauncher
from tests.helpers import PROJECT
from tests.launch.processes import SAVING, finish, wait_for

CODED = (*PYTHON, "tests.launch.coded")
UP = "print('up', flush=True); import time; time.sleep(60)"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is for Linux alone")


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """Let the server import nothing, and run the jobs of these tests."""
    monkeypatch.setattr(forked, "MODULE", "tests.launch.light_server")
    monkeypatch.setattr(forked, "JOB", CODED)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    # Where a shell runs the tests in the background, it lets them ignore this one, and a process of
    # its own would go on ignoring it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def launcher():
    launcher = LocalLauncher(2, [])
    yield launcher
    launcher.stop([*launcher.jobs])
    launcher.close()


@pytest.fixture
def coded(job):
    def make(name: str, code: str = "", **fields):
        return job(name, command=(*CODED, code), **fields)

    return make


def server_of(launcher):
    return launcher.server._process.pid


def is_gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def parent_of(launcher, id):
    return psutil.Process(launcher.jobs[id].process.pid).ppid()


def in_time(launcher, ids, logs):
    """Poll until all logs have begun."""
    wait_for(lambda: launcher.poll(ids) and all(log.exists() and log.read_text() for log in logs))


# Each program, and how it ends.
PROGRAMS = {
    "print('said')": 0,
    "import sys; sys.exit(3)": 3,
    "import sys; sys.exit('a sentence')": 1,
    "raise ValueError('wrong')": 1,
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": -signal.SIGKILL,
    "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)": -signal.SIGINT,
    "import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)": -signal.SIGTERM,
    "import atexit; atexit.register(print, 'at the end')": 0,
    "import threading, time; threading.Thread(target=lambda: print('from a thread')).start()": 0,
    "import os, sys; print(sys.argv[1:], sys.orig_argv, os.getsid(0) == os.getpid())": 0,
    "import os; print(sorted(os.environ.items()))": 0,
    "import os; print(sorted(os.listdir('/proc/self/fd')), os.path.realpath('/proc/self/fd/0'))": 0,
    "import sys; print(repr(sys.stdin.read())); print('apart', file=sys.stderr)": 0,
    "import signal; print([signal.getsignal(n) for n in (2, 15, 17, 1, 13)])": 0,
    "import signal as s; print(s.pthread_sigmask(s.SIG_BLOCK, []), s.set_wakeup_fd(-1))": 0,
    "import sys; print(sys.stdout.isatty(), sys.stdout.line_buffering, sys.stdout.encoding)": 0,
    "import multiprocessing as m; p = m.get_context('spawn').Process(target=print); p.start();"
    "p.join(); print(p.exitcode, len(m.active_children()))": 0,
}


@pytest.mark.parametrize("code", PROGRAMS)
def test_it_ends_and_says_what_a_process_of_its_own_does(launcher, coded, tmp_path, code):
    ids = launcher.submit([coded("one", code), coded("two", code)])
    assert [status.code for status in finish(launcher, ids)] == [PROGRAMS[code]] * 2
    assert launcher.server is None, "what only further jobs need is given back"
    with (tmp_path / "own.txt").open("w") as own:
        environment = os.environ | {local.launched_from_here().popitem()[0]: "0 0"}
        environment |= local.launched_from_here()
        done = subprocess.run(
            (*CODED, code),
            stdout=own,
            stderr=own,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    assert done.returncode == PROGRAMS[code]
    expected = (tmp_path / "own.txt").read_text()
    # The lines of runpy above the job's own are one fewer in a process that it starts itself.
    for name in ("one", "two"):
        said = (tmp_path / f"{name}.txt").read_text()
        assert said.splitlines()[-1:] == expected.splitlines()[-1:]
        if "Traceback" not in expected:
            assert said == expected


def test_jobs_are_children_of_the_server_and_known_to_others(launcher, coded, tmp_path):
    jobs = [coded(name, UP, folder=tmp_path / name) for name in "ab"]
    for job in jobs:
        job.folder.mkdir()
    ids = launcher.submit(jobs)
    in_time(launcher, ids, [job.log for job in jobs])
    for id, job in zip(ids, jobs, strict=True):
        pid = launcher.jobs[id].process.pid
        assert parent_of(launcher, id) == server_of(launcher)
        record = read_job(job.folder).details
        assert (record["pid"], record["started"]) == (pid, psutil.Process(pid).create_time())
    server = psutil.Process(server_of(launcher))
    launcher.stop(ids)
    assert [status.stopped for status in finish(launcher, ids)] == [True, True]
    assert is_gone(server)


def test_a_log_is_added_to(launcher, coded, tmp_path):
    for _ in range(2):
        jobs = [coded("again", "print('once more')"), coded("other")]
        finish(launcher, launcher.submit(jobs))
    assert (tmp_path / "again.txt").read_text() == "once more\n" * 2


def test_a_single_job_and_other_programs_need_no_server(launcher, coded, job, tmp_path):
    statuses = finish(launcher, launcher.submit([coded("single"), job("other", "print(1)")]))
    assert [status.code for status in statuses] == [0, 0] and launcher.server is None
    ids = launcher.submit([coded("a", UP), coded("b", UP, environment={"OMP_NUM_THREADS": "7"})])
    in_time(launcher, ids, [tmp_path / "a.txt", tmp_path / "b.txt"])
    # Libraries read the variable when they are imported.
    assert parent_of(launcher, ids[0]) == server_of(launcher)
    assert parent_of(launcher, ids[1]) == os.getpid()


def test_who_is_asked_to_stop_before_it_has_a_process_hears_it(launcher, coded, monkeypatch):
    monkeypatch.setenv("PRELOAD", "import time; time.sleep(1)")
    ids = launcher.submit([coded("a", SAVING), coded("b", SAVING)])
    launcher.poll(ids)
    assert [launcher.jobs[id].process.pid for id in ids] == [None, None]
    launcher.stop(ids)
    assert all(status.stopped for status in finish(launcher, ids))


def test_it_is_stopped_and_saves(launcher, coded, tmp_path):
    ids = launcher.submit([coded("a", SAVING), coded("b", SAVING)])
    in_time(launcher, ids, [tmp_path / "a.txt", tmp_path / "b.txt"])
    launcher.stop(ids)
    assert [status.code for status in finish(launcher, ids)] == [130, 130]
    assert (tmp_path / "a.txt").read_text() == "up\nsaved\n"


def test_a_job_that_does_not_stop_is_killed(launcher, coded, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "GRACE_SECONDS", 0.2)
    deaf = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{UP}"
    ids = launcher.submit([coded("a", deaf), coded("b", deaf)])
    in_time(launcher, ids, [tmp_path / "a.txt", tmp_path / "b.txt"])
    launcher.stop(ids)
    assert {status.code for status in finish(launcher, ids)} == {-signal.SIGKILL}


def test_a_job_does_not_hold_what_another_has_locked(launcher, coded, tmp_path):
    """A fork from a process that holds a lock would hold it, too."""
    lock = tmp_path / "lock"
    holds = f"from filelock import FileLock; its = FileLock({str(lock)!r}); its.acquire()\n{UP}"
    first, *others = launcher.submit([coded("a", holds), coded("b", UP, after=())])
    in_time(launcher, [first], [tmp_path / "a.txt", tmp_path / "b.txt"])
    assert is_locked(lock)
    os.kill(launcher.jobs[first].process.pid, signal.SIGKILL)
    wait_for(lambda: launcher.poll([first])[first].over)
    assert not is_locked(lock)
    assert launcher.poll(others)[others[0]].state == State.RUNNING


def test_without_its_server_a_job_goes_on_and_the_next_ones_are_plain(launcher, coded, tmp_path):
    jobs = [coded("a", UP), coded("b", SAVING), coded("c", "print('all right')")]
    ids = launcher.submit(jobs)
    in_time(launcher, ids, [tmp_path / "a.txt", tmp_path / "b.txt"])
    os.kill(server_of(launcher), signal.SIGKILL)
    os.kill(launcher.jobs[ids[0]].process.pid, signal.SIGKILL)
    wait_for(lambda: launcher.poll(ids)[ids[2]].over)
    first, second, third = launcher.poll(ids).values()
    assert first.code == forked.UNSEEN and third.succeeded
    assert second.state == State.RUNNING
    launcher.stop(ids)
    finish(launcher, ids)
    assert (tmp_path / "b.txt").read_text() == "up\nsaved\n"


@pytest.mark.parametrize(
    "preload",
    [
        "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()",
        "raise ImportError('torch is broken')",
        "import os; os._exit(0)",
    ],
    ids=["a second thread", "an import fails", "it is gone at once"],
)
def test_a_server_that_cannot_fork_leaves_it_to_plain_processes(
    launcher, coded, tmp_path, monkeypatch, preload
):
    monkeypatch.setenv("PRELOAD", preload)
    ids = launcher.submit([coded(name, "print('all right')") for name in "abc"])
    assert all(status.succeeded for status in finish(launcher, ids))
    assert {(tmp_path / f"{name}.txt").read_text() for name in "abc"} == {"all right\n"}


LAUNCH = """
import os, sys, time
from pathlib import Path
from benchmark.launch import forked
from benchmark.launch.base import Job
from benchmark.launch.local import LocalLauncher
forked.MODULE, forked.JOB = "tests.launch.light_server", tuple(sys.argv[3:])
jobs = [Job(name, (*forked.JOB, sys.argv[2]), Path(sys.argv[1], name)) for name in "ab"]
launcher = LocalLauncher(2, [])
ids = launcher.submit(jobs)
launcher.poll(ids)
print(launcher.server._process.pid, flush=True)
while True:
    launcher.poll(ids)
    time.sleep(0.05)
"""
ORPHAN = """
from benchmark.base.parent import end_with_launcher
end_with_launcher(grace=60)
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(130)))
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("is_begun", [True, False])
def test_the_server_and_its_jobs_end_with_a_launcher_that_is_killed(tmp_path, is_begun):
    preload = "" if is_begun else "import time; time.sleep(1)"
    command = [sys.executable, "-c", LAUNCH, str(tmp_path), ORPHAN, *CODED]
    environment = os.environ | {"PRELOAD": preload}
    logs = [tmp_path / "a", tmp_path / "b"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as launcher:
        processes = [psutil.Process(int(launcher.stdout.readline()))]
        if is_begun:
            wait_for(lambda: all(log.exists() and log.read_text() for log in logs))
            processes += [psutil.Process(int(log.read_text())) for log in logs]
        launcher.kill()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert all(is_gone(process) for process in alive)
    time.sleep(0 if is_begun else 0.5)
    for log in logs:
        assert log.read_text().endswith("saved\n" if is_begun else "")
        assert is_begun or not log.read_text(), "nothing begins for a launcher that is gone"
