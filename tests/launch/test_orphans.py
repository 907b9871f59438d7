"""Jobs of a launcher that dies end by themselves."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmark.base.parent import LAUNCHER
from tests.launch.processes import wait_for

# A job that ends at SIGTERM, and one that does not hear it and has a child.
SAVES = """
import signal, sys, time
from benchmark.base.parent import end_with_launcher
end_with_launcher(grace=60)
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(130)))
print("up", flush=True)
time.sleep(60)
"""
DEAF = """
import signal, subprocess, sys, time
from benchmark.base.parent import end_with_launcher
end_with_launcher(grace=0.5)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = "import time; time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True)
print("up", child.pid, flush=True)
time.sleep(60)
"""
# A terminal's end reaches it even where the tests themselves are run under nohup.
LAUNCH = """
import signal, sys, time
from pathlib import Path
from benchmark.launch.base import Job
from benchmark.launch.local import LocalLauncher
signal.signal(signal.SIGHUP, signal.SIG_DFL)
folder = Path(sys.argv[1])
codes = dict(zip(("saves", "deaf"), sys.argv[2:]))
jobs = [
    Job(name, (sys.executable, "-c", code), folder / f"{name}.txt") for name, code in codes.items()
]
launcher = LocalLauncher(2, [])
ids = launcher.submit(jobs)
launcher.poll(ids)
print(*(launcher.jobs[id].process.pid for id in ids), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_jobs_of_a_dead_launcher_save_and_end(number: int, tmp_path: Path):
    command = [sys.executable, "-c", LAUNCH, str(tmp_path), SAVES, DEAF]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        ids = launcher.stdout.readline().split()
        logs = [tmp_path / "saves.txt", tmp_path / "deaf.txt"]
        wait_for(lambda: all(log.exists() and "up" in log.read_text() for log in logs))
        ids.append(logs[1].read_text().split()[1])
        processes = [psutil.Process(int(id)) for id in ids]
        launcher.send_signal(number)
    _, alive = psutil.wait_procs(processes, timeout=10)
    # Orphans of a container without an init process stay in the process table as zombies.
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
    assert logs[0].read_text() == "up\nsaved\n"


def test_a_job_whose_launcher_died_before_it_began_ends_at_once():
    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        started = psutil.Process(gone.pid).create_time()
    result = subprocess.run(
        [sys.executable, "-m", "benchmark.cli", "sync", "--watch", "--runs", os.devnull],
        env={**os.environ, LAUNCHER: f"{gone.pid} {started}"},
        capture_output=True,
        timeout=30,
    )
    assert result.returncode == -signal.SIGTERM and not result.stdout


def test_a_process_that_nobody_launched_goes_on():
    code = "from benchmark.base.parent import end_with_launcher as end; end(); print('on')"
    environment = {name: value for name, value in os.environ.items() if name != LAUNCHER}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout == b"on\n"
