"""The tracking UI in a real browser: what it shows of a finished run."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from benchmark.runs.groups import Cell, Group, write_plan
from benchmark.tracking import mlflow_store
from tests.helpers import PROJECT, copied

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
SECONDS = 60  # that a page may take on a busy machine


@pytest.fixture
def runs(trained, tmp_path):
    """Return a folder with one finished run, which a plan names."""
    (run,) = copied(tmp_path / "runs", trained("lavt", "baseline"))
    write_plan(run.path.parent, Group("quick", "preset", cells=[Cell.of(run.spec())]))
    return run.path.parent


@pytest.fixture
def address(runs, tmp_path):
    """Start `risbench ui` on the folder and return its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "benchmark.cli", "ui", "--runs", str(runs), "--port", port]
    with (tmp_path / "ui.txt").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=PROJECT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + SECONDS
        while not answers(f"http://127.0.0.1:{port}/health"):
            shown = (tmp_path / "ui.txt").read_text()
            assert server.poll() is None, shown
            assert time.monotonic() < deadline, shown
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        # The server's workers are processes of its own group.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


def page(url: str, folder, *expected: str) -> str:
    """Return what the browser shows, asked again until it shows all that is expected."""
    options = [
        "--headless",
        "--no-sandbox",  # a container gives Chromium no namespaces
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder}",
        "--virtual-time-budget=20000",
        "--dump-dom",
    ]
    deadline = time.monotonic() + SECONDS
    while True:
        done = subprocess.run(
            [CHROMIUM, *options, url], capture_output=True, text=True, timeout=SECONDS
        )
        shown = re.sub(r"<[^>]*>", " ", done.stdout)
        if all(text in shown for text in expected):
            return shown
        assert time.monotonic() < deadline, shown[-3000:] + done.stderr[-1000:]


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
def test_the_ui_shows_the_experiment_and_the_run(runs, address, tmp_path):
    (key,) = [path.parent.name for path in runs.glob("*/spec.yaml")]
    browser, experiments = tmp_path / "browser", f"{address}/#/experiments"
    page(f"{experiments}?workflowType=machine_learning", browser, "refcoco")
    client = mlflow_store.client_of(address)
    experiment = client.get_experiment_by_name("refcoco").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`ris.key` = '{key}'")
    # The list shows the parent of the seeds, under which the run is folded in.
    page(f"{experiments}/{experiment}/runs", browser, "lavt baseline tiny (quick)")
    page(f"{experiments}/{experiment}/runs/{run.info.run_id}", browser, key, "Finished")
