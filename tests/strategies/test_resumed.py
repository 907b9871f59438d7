"""A run that was killed and goes on gives the same bytes, whatever its strategy draws."""

import pytest

from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training.trainer import Trainer
from tests.helpers import tiny_spec

HOW = Execution.of(device="cpu", checkpoint_seconds=0, log_every=2)
SETTINGS = {"patch_size": 8, "threshold": 0.2, "word_alpha": 0.6}


class Killed(BaseException):
    """Stands for kill -9: nothing that handles errors may notice it."""


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("method", "strategy"),
    [("caris", "amlris"), ("cmmasksd", "cmmasksd"), ("lavt", "split-masking")],
)
def test_a_killed_run_goes_on_to_the_same_bytes(boxes, tmp_path, monkeypatch, method, strategy):
    spec, places = tiny_spec(boxes, method, strategy, strategy=SETTINGS)
    runs = [RunDir(tmp_path / name / spec.key) for name in ("whole", "killed")]
    for run in runs:
        run.path.parent.mkdir()
        run.create(spec)
    Trainer(spec, runs[0], Opened(places), HOW).train()

    trainer = Trainer(spec, runs[1], Opened(places), HOW)
    enqueue, steps = trainer.stepper.enqueue, []

    def killed_at_the_sixth(*arguments):
        steps.append(1)
        if len(steps) == 6:
            raise Killed
        enqueue(*arguments)

    monkeypatch.setattr(trainer.stepper, "enqueue", killed_at_the_sixth)
    with pytest.raises(Killed):
        trainer.train()
    Trainer(spec, runs[1], Opened(places), HOW).train()
    for name in ("metrics.jsonl", "best.safetensors", "result.json"):
        assert (runs[1].path / name).read_bytes() == (runs[0].path / name).read_bytes()
