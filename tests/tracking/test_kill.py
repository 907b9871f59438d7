"""Syncs that are killed at any moment leave a store that the next one completes."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.runs.groups import write_plan
from benchmark.tracking import mlflow_store
from tests.helpers import PROJECT
from tests.reports.fakes import make_run, make_spec, plan
from tests.tracking.stores import stored

SEEDS = 4
KILLS = 6
CODE = """
import sys
from pathlib import Path
from benchmark.tracking import mlflow_store
from reports.group_report import maker

print("ready", flush=True)
summary = mlflow_store.sync(Path(sys.argv[1]), reports=maker(Path(sys.argv[1])))
print(summary.failures or "done", flush=True)
"""


def begin(runs: Path) -> subprocess.Popen:
    """Return a process that is about to sync."""
    command = [sys.executable, "-c", CODE, str(runs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.faults
def test_killed_syncs_end_in_the_store_of_one_that_was_not(runs: Path, tmp_path: Path):
    specs = [
        make_spec(strategy, seed, method)
        for method in ("cris", "lavt")
        for strategy in ("baseline", "maskris")
        for seed in range(SEEDS)
    ]
    for spec in specs:
        make_run(runs, spec)
    write_plan(runs, plan(specs))
    twin = tmp_path / "twin"
    shutil.copytree(runs, twin)
    for path in runs.rglob("*"):  # The times of pictures are part of their names in MLflow.
        shutil.copystat(path, twin / path.relative_to(runs))
    started = time.monotonic()
    undisturbed = begin(twin)
    assert undisturbed.communicate()[0] == "done\n"
    whole = time.monotonic() - started
    moments = random.Random(7)
    killed = 0
    for _ in range(KILLS):
        process = begin(runs)
        try:
            process.wait(moments.uniform(0, whole))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    assert killed, "every sync was over before its moment came"
    summary = mlflow_store.sync(runs)
    assert not summary.failed
    process = begin(runs)
    assert process.communicate()[0] == "done\n"
    assert stored(runs) == stored(twin)
