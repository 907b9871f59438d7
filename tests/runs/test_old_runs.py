"""Run directories that were written before the code was moved into rooms: read, reported and resumed as they were.

`pins/old` holds a small data set and four runs of the tests' toy method: done, interrupted, pruned and failed. `twin` is what
the interrupted run came to when it was not interrupted.
"""

import hashlib
import json
import shutil

import pytest
from rich.console import Console

from benchmark.robustness.results import finished_conditions, read_results
from benchmark.runs.execution import Execution, Places
from benchmark.runs.groups import read_group
from benchmark.runs.resolve import Opened
from benchmark.runs.rundir import RunDir, all_runs
from benchmark.training import worker
from tests.helpers import PROJECT
from tests.runs.pins.quick import digest

OLD = PROJECT / "tests" / "runs" / "pins" / "old"
STATES = {"baseline": "done", "maskris": "planned", "masking": "pruned", "text-masking": "failed"}


@pytest.fixture
def old(tmp_path, monkeypatch):
    """Return the old folder's copy, with the toy method at hand."""
    monkeypatch.setenv("RISBENCH_PLUGINS", str(PROJECT / "tests" / "plugins" / "toy_method.py"))
    return shutil.copytree(OLD, tmp_path / "old")


def of(old, strategy):
    return next(run for run in all_runs(old / "runs") if run.spec().strategy.name == strategy)


def test_old_runs_are_read(old):
    states = {}
    for run in all_runs(old / "runs"):
        spec = run.spec()
        assert spec.key == run.key and run.kind == "trained"
        states[spec.strategy.name] = run.status().state
    assert states == STATES
    assert "became nan" in of(old, "text-masking").status().reason
    done = of(old, "baseline")
    assert done.records("testA")["sent_id"].is_monotonic_increasing
    assert finished_conditions(done, "val") == ["fog-3", "words"]
    assert len(read_results(done, "val", "fog-3")) == len(done.records("val"))


def test_an_old_group_is_a_plan(old):
    group = read_group(old / "runs", "old")
    assert {cell.strategy: cell.key for cell in group.cells} == {
        strategy: of(old, strategy).key for strategy in STATES
    }
    assert group.superseded == []


def test_an_old_run_goes_on_to_the_same_end(old):
    run = of(old, "maskris")
    opened = Opened(Places(old / "data", runs=old / "runs"))
    worker.work(run, opened, Execution.of(device="cpu", log_every=2), Console(quiet=True))
    assert run.status().state == "done"
    twin = RunDir(OLD / "twin")
    assert run.read_json("result.json") == twin.read_json("result.json")
    assert (run.path / "metrics.jsonl").read_text() == (OLD / "twin" / "metrics.jsonl").read_text()
    for split in ("val", "testA", "testB"):
        assert digest(run.records(split)) == digest(twin.records(split))


def test_its_weights_are_those_of_then_on_the_same_processor(old):
    pins = json.loads((PROJECT / "tests" / "runs" / "pins" / "quick.json").read_text())
    from tests.runs.pins.quick import processor

    if pins["processor"] != processor():
        pytest.skip("the pins were made on another processor")
    run = of(old, "maskris")
    opened = Opened(Places(old / "data", runs=old / "runs"))
    worker.work(run, opened, Execution.of(device="cpu", log_every=2), Console(quiet=True))
    weights = hashlib.sha256((run.path / "best.safetensors").read_bytes()).hexdigest()
    assert weights == (OLD / "twin" / "best.sha256").read_text().strip()
