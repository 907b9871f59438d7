"""Runs that are forked have the bits of runs of a process of their own."""

import sys

import pytest

from benchmark.launch.jobs import run_jobs
from benchmark.launch.local import LocalLauncher
from benchmark.runs.execution import Execution
from benchmark.runs.rundir import RunDir
from tests.helpers import tiny_spec
from tests.launch.processes import finish

FILES = ("best.safetensors", "metrics.jsonl", "result.json", "spec.yaml")


@pytest.mark.skipif(sys.platform != "linux", reason="a fork server is for Linux alone")
def test_forked_runs_are_those_of_other_processes(boxes, tmp_path, trained, monkeypatch):
    runs, twins = [], [trained("lavt", name) for name in ("baseline", "maskris")]
    for name in ("baseline", "maskris"):
        spec, places = tiny_spec(boxes, "lavt", name, runs=tmp_path / "runs")
        run = RunDir(places.runs / spec.key)
        run.create(spec)
        run.write_json("environment.json", {"data": {"root": str(boxes), "images": str(boxes)}})
        runs.append(run)
    launcher = LocalLauncher(2, [])
    how = Execution.of(device="cpu", checkpoint_seconds=1e9, log_every=2)
    forked = []

    def watch(statuses):
        forked.append(launcher.server is not None)

    ids = launcher.submit(run_jobs(runs, places, how, launcher))
    assert [status.code for status in finish(launcher, ids, watch)] == [0, 0]
    assert any(forked)
    for run, twin in zip(runs, twins, strict=True):
        assert run.status().state == "done"
        paths = [*FILES, *(path.relative_to(twin.path) for path in twin.path.glob("images/*"))]
        for path in paths:
            assert (run.path / path).read_bytes() == (twin.path / path).read_bytes(), path
        for split in ("val", "testA", "testB"):
            assert run.records(split).equals(twin.records(split))
        assert "Warning" not in (run.path / "log.txt").read_text()
