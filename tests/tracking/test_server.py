"""A real `mlflow server` that is killed while a sync writes to it, and comes back."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from benchmark.runs.groups import write_plan
from benchmark.tracking import mlflow_store
from tests.helpers import PROJECT
from tests.reports.fakes import make_run, make_spec, plan
from tests.tracking.stores import stored

SECONDS = 90  # in which a server has to answer on a busy machine
CODE = """
import sys
from pathlib import Path
from benchmark.cli.app import app, guarded
print("ready", flush=True)
sys.exit(guarded(lambda: app(["sync", "--runs", sys.argv[1], "--uri", sys.argv[2]])))
"""


class Server:
    """An `mlflow server` on a folder of its own, at one port for all its lives."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.address = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command, variables = mlflow_store.ui_command(self.folder, port=self.port)
        with (self.folder / "server.txt").open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=os.environ | variables,
                start_new_session=True,
            )
        deadline = time.monotonic() + SECONDS
        while not self.answers():
            assert time.monotonic() < deadline, (self.folder / "server.txt").read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.address}/health", timeout=5).status == 200
        except OSError:
            return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)  # its workers, too
        self.process.wait()


def begin(runs: Path, address: str) -> subprocess.Popen:
    """Return a process that is about to sync."""
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(runs), address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.faults
@pytest.mark.campaign
def test_a_server_that_is_killed_during_a_sync_gets_the_rest_later(template, tmp_path):
    specs = [make_spec(strategy, seed) for strategy in ("baseline", "maskris") for seed in range(6)]
    for spec in specs:
        make_run(tmp_path / "runs", spec)
    write_plan(tmp_path / "runs", plan(specs))
    found, took = [], 0.0
    for disturbed in (False, True):
        folder = tmp_path / f"server{disturbed}"
        folder.mkdir()
        shutil.copy(template, folder / "mlflow.db")
        runs = tmp_path / f"runs{disturbed}"
        shutil.copytree(tmp_path / "runs", runs)
        server = Server(folder)
        server.start()
        try:
            started = time.monotonic()
            sync = begin(runs, server.address)
            if disturbed:
                time.sleep(random.Random(5).uniform(0.3, 0.8) * took)
                server.kill()
                time.sleep(1)
                server.start()
            said = sync.communicate(timeout=300)
            assert "Traceback" not in said[1]
            if disturbed:
                assert sync.returncode in (0, 1)
                again = begin(runs, server.address)
                assert again.communicate(timeout=300) and again.returncode == 0
            else:
                assert sync.returncode == 0, said
                took = time.monotonic() - started
            found.append(stored(runs, server.address))
        finally:
            server.kill()
    assert found[0] == found[1]
