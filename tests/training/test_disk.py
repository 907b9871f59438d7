"""What a run takes of the disk, against the files that it writes."""

import pytest
from rich.console import Console

from benchmark.base.errors import WorldError
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training import disk, worker
from benchmark.training.resume_point import FILE
from benchmark.training.trainer import Trainer
from tests.helpers import tiny_spec

QUIET = Console(quiet=True)
EXECUTION = Execution.of(device="cpu", checkpoint_seconds=0)


@pytest.mark.parametrize("method", ["cris", "sag"])
def test_what_is_planned_is_what_the_files_take(boxes, tmp_path, method):
    spec, places = tiny_spec(boxes, method)
    run, opened = RunDir(tmp_path / spec.key), Opened(places)
    run.create(spec)
    trainer = Trainer(spec, run, opened, EXECUTION)
    planned = disk.disk(trainer.method, spec, opened)
    sizes = []
    trainer.train(lambda step, *_: step == 3 and sizes.append((run.path / FILE).stat().st_size))
    assert planned.under_way == pytest.approx(2 * sizes[-1], rel=0.05)
    kept = [run.path / "best.safetensors", *run.path.glob("records/*"), *run.path.glob("masks/*")]
    assert planned.kept == pytest.approx(sum(path.stat().st_size for path in kept), rel=0.05)


def test_a_finished_run_has_no_resume_point(boxes, trained):
    run = trained("lavt", "baseline")
    assert not (run.path / FILE).exists()
    _, places = tiny_spec(boxes, "lavt", "baseline")
    (run.path / FILE).write_bytes(b"left by a kill")
    worker.work(run, Opened(places), EXECUTION, QUIET)
    assert not (run.path / FILE).exists()


def test_a_run_that_does_not_fit_is_not_begun(boxes, tmp_path, monkeypatch):
    spec, places = tiny_spec(boxes)
    run = RunDir(tmp_path / spec.key)
    run.create(spec)
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 2_000_000)
    with pytest.raises(WorldError, match=r"0\.\d\d GB more of the disk .* 0\.00 GB are free"):
        worker.work(run, Opened(places), EXECUTION, QUIET)
    assert run.status().state == "failed" and run.status().step == 0
    monkeypatch.undo()
    worker.work(run, Opened(places), EXECUTION, QUIET)
    assert run.status().state == "done"
