"""What is done about a loss, gradients or weights that are not finite."""

import math

import pytest
import torch

from benchmark.base.errors import UserError
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training import resume_point, updates
from benchmark.training.trainer import Trainer
from tests.helpers import tiny_spec

NAN = float("nan")
EXECUTION = Execution.of(device="cpu", checkpoint_seconds=0, log_every=2)


def started(boxes, folder, precision, epochs=2, method="lavt"):
    recipe = {"epochs": epochs, "batch_size": 4, "micro_batch": 4, "precision": precision}
    spec, places = tiny_spec(boxes, method, "baseline", recipes={method: recipe})
    run = RunDir(folder / spec.key)
    run.create(spec)
    return run, Trainer(spec, run, Opened(places), EXECUTION)


def poison(monkeypatch, trainer, steps, factor=NAN, inputs=False):
    """Multiply the loss, or the images that the network gets, at some steps."""
    loss, forward = trainer.method.loss, trainer.method.forward

    def poisoned_loss(output, batch):
        wrong = trainer.stepper.step in steps and torch.is_grad_enabled() and not inputs
        terms = loss(output, batch)
        return {name: term * (factor if wrong else 1.0) for name, term in terms.items()}

    def poisoned_forward(batch, draws, purpose):
        if inputs and trainer.stepper.step in steps and torch.is_grad_enabled():
            batch.images = batch.images * factor
        return forward(batch, draws, purpose)

    monkeypatch.setattr(trainer.method, "loss", poisoned_loss)
    monkeypatch.setattr(trainer.method, "forward", poisoned_forward)


def with_steep_term(monkeypatch, trainer):
    """Add the root of 0 to the loss."""
    loss = trainer.method.loss
    monkeypatch.setattr(
        trainer.method,
        "loss",
        lambda output, batch: loss(output, batch) | {"steep": (0 * output.logits.sum()).sqrt()},
    )


def state_of(trainer):
    return {name: value.clone() for name, value in trainer.method.state_dict().items()}


def watched(monkeypatch, trainer, step):
    """Keep the state of the network before and after a step."""
    enqueue, kept = trainer.stepper.enqueue, []

    def wrapped(*arguments):
        now = trainer.stepper.step == step
        kept.extend([state_of(trainer)] if now else [])
        enqueue(*arguments)
        kept.extend([state_of(trainer)] if now else [])

    monkeypatch.setattr(trainer.stepper, "enqueue", wrapped)
    return kept


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("inputs", [False, True])
def test_fp16_skips_the_step_lowers_the_scale_and_counts(boxes, tmp_path, monkeypatch, inputs):
    """With poisoned inputs the running statistics of BatchNorm are in danger, too."""
    run, trainer = started(boxes, tmp_path, "fp16")
    # At this scale nothing overflows of itself.
    trainer.stepper.updates.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    poison(monkeypatch, trainer, {3, 4}, inputs=inputs)
    kept = watched(monkeypatch, trainer, 3)
    trainer.train()
    assert all(torch.equal(kept[0][name], value) for name, value in kept[1].items())
    assert trainer.stepper.updates.scaler.get_scale() == 1024 / 4
    assert trainer.stepper.updates.in_a_row == 0
    lines = [line for line in run.metrics() if "train/skipped_steps" in line]
    assert [line["train/skipped_steps"] for line in lines] == [0, 1, 2, 2]
    # Steps 3 and 4 are one each of two lines, whose averages are of the other ones.
    assert all(math.isfinite(line["train/loss"]) for line in lines)
    assert run.status().state == "done"
    assert all(value.isfinite().all() for value in state_of(trainer).values())


def test_fp16_skips_gradients_that_overflow(boxes, tmp_path, monkeypatch):
    """The loss is finite all the same: the root of 0 is, and its derivative is not."""
    run, trainer = started(boxes, tmp_path, "fp16")
    before = trainer.stepper.updates.scaler.get_scale()
    with_steep_term(monkeypatch, trainer)
    order = trainer.samples.order(0, 4, True)
    losses = trainer.stepper.optimize([trainer.samples.batch(order[0], 0)], 0)
    assert math.isfinite(losses["train/loss"])
    assert trainer.stepper.updates.skipped == 1
    assert trainer.stepper.updates.scaler.get_scale() == before / 2


@pytest.mark.usefixtures("no_pictures")
def test_too_many_in_a_row_end_in_one_sentence(boxes, tmp_path, monkeypatch):
    assert updates.MOST_IN_A_ROW == 20
    monkeypatch.setattr(updates, "MOST_IN_A_ROW", 4)
    run, trainer = started(boxes, tmp_path, "fp16")
    poison(monkeypatch, trainer, range(2, 100), inputs=True)
    with pytest.raises(
        UserError, match="4 steps in a row .* step 5: lower recipe.learning_rate .* fp32"
    ):
        trainer.train()
    state = resume_point.load(run)
    assert 0 < state["skipped_in_a_row"] < 4
    assert all(value.isfinite().all() for value in state["method"].values())
    # A row goes on beyond a resume.
    _, again = started(boxes, tmp_path, "fp16")
    poison(monkeypatch, again, range(2, 100), inputs=True)
    with pytest.raises(UserError, match="step 5"):
        again.train()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_precisions_fail_before_the_step(boxes, tmp_path, monkeypatch, precision):
    run, trainer = started(boxes, tmp_path, precision)
    poison(monkeypatch, trainer, {2})
    kept = watched(monkeypatch, trainer, 2)
    with pytest.raises(UserError, match="the loss became nan at step 2") as error:
        trainer.train()
    parameters = dict(trainer.method.named_parameters())
    assert all(torch.equal(kept[0][name], parameters[name]) for name in parameters)
    assert ("use precision fp32" in str(error.value)) == (precision != "fp32")
    assert resume_point.load(run)["step"] == 2


def test_gradients_are_looked_at_too(boxes, tmp_path, monkeypatch):
    run, trainer = started(boxes, tmp_path, "fp32")
    with_steep_term(monkeypatch, trainer)
    before = state_of(trainer)
    with pytest.raises(UserError, match="the gradients became nan at step 0"):
        trainer.train()
    parameters = dict(trainer.method.named_parameters())
    assert all(torch.equal(before[name], parameters[name]) for name in parameters)
    assert resume_point.load(run) is None


def test_no_resume_point_holds_poisoned_weights(boxes, tmp_path):
    run, trainer = started(boxes, tmp_path, "fp32")
    trainer.state.save()
    before = (run.path / resume_point.FILE).read_bytes()
    name, weight = next(iter(trainer.method.named_parameters()))
    with torch.no_grad():
        weight[0] = NAN
    with pytest.raises(UserError, match=f"not finite in {name}"):
        trainer.state.save()
    assert (run.path / resume_point.FILE).read_bytes() == before


def test_fp32_runs_log_what_they_always_did(trained):
    assert not [line for line in trained("cris", "baseline").metrics() if "skipped" in str(line)]
