"""Run directories from before the code was moved into rooms: read, reported, resumed as they were.

`pins/old` holds a small data set and four runs of the tests' toy method: done, interrupted,
pruned and failed. `twin` is what the interrupted run came to when it was not interrupted.
"""

import hashlib
import json
import shutil

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from benchmark.robustness.results import finished_conditions, read_results
from benchmark.runs.execution import Execution, Places
from benchmark.runs.groups import read_group
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir, all_runs
from benchmark.training import worker
from tests.helpers import PROJECT
from tests.runs.pins.quick import PINS as QUICK
from tests.runs.pins.quick import TOLERANCE, digest, processor

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


def trained(run, folder):
    """Train a run to its end on the old data."""
    opened = Opened(Places(folder / "data", runs=run.path.parent))
    worker.work(run, opened, Execution.of(device="cpu", log_every=2), Console(quiet=True))
    assert run.status().state == "done"
    return run


def same(found, pinned, exact):
    """Whether two JSON values are equal, numbers up to the tolerance of the pins if not `exact`."""
    if isinstance(pinned, dict):
        return found.keys() == pinned.keys() and all(
            same(found[name], pinned[name], exact) for name in pinned
        )
    if exact or not isinstance(pinned, float):
        return found == pinned
    return found == pytest.approx(pinned, abs=TOLERANCE, rel=TOLERANCE)


def test_an_old_run_goes_on_to_the_same_end(old):
    """Other processors sum in another order, so only the one of the pins gives the last bit."""
    run, twin = trained(of(old, "maskris"), old), RunDir(OLD / "twin")
    exact = json.loads(QUICK.read_text())["processor"] == processor()
    assert same(run.read_json("result.json"), twin.read_json("result.json"), exact)
    lines, expected = run.metrics(), twin.metrics()
    assert [line["step"] for line in lines] == [line["step"] for line in expected]
    assert all(same(*pair, exact) for pair in zip(lines, expected, strict=True))
    for split in ("val", "testA", "testB"):
        found, pinned = run.records(split), twin.records(split)
        assert found["sent_id"].tolist() == pinned["sent_id"].tolist()
        assert not exact or digest(found) == digest(pinned)


def test_a_resumed_old_run_has_the_weights_of_an_uninterrupted_one(old):
    resumed = of(old, "maskris")
    whole = RunDir(old / "whole" / resumed.key)
    whole.create(resumed.spec())
    for run in (resumed, whole):
        trained(run, old)
    first, second = (load_file(run.path / "best.safetensors") for run in (resumed, whole))
    assert first.keys() == second.keys()
    exact = json.loads(QUICK.read_text())["processor"] == processor()
    for name, value in first.items():
        # The old run's first steps were taken on the processor of the pins.
        tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": TOLERANCE, "atol": TOLERANCE}
        torch.testing.assert_close(value, second[name], **tolerance)
    if exact:
        weights = hashlib.sha256((resumed.path / "best.safetensors").read_bytes()).hexdigest()
        assert weights == (OLD / "twin" / "best.sha256").read_text().strip()
