"""Nothing in a step waits for a GPU, and what the loop runs ahead of gives the same bytes."""

import contextlib
import math
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import methods
from benchmark import strategies
from benchmark.base.errors import UserError
from benchmark.data.samples import TrainingSamples
from benchmark.evaluation.inference import build_method
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.strategies.strategy import MicroBatch
from benchmark.training import resume_point
from benchmark.training.trainer import Trainer
from tests.helpers import tiny_spec
from tests.training.test_updates import poison, with_steep_term

META = torch.device("meta")
SETTINGS = {"patch_size": 8, "threshold": 0.2}
EVERY_METHOD = ("baseline", "maskris", "amlris-random", "split-masking", "crop-flip-jitter")
PAIRS = [(method, strategy) for method in methods.names() for strategy in EVERY_METHOD]
PAIRS += [("cmmasksd", "cmmasksd")]


class Asynchronous(TorchDispatchMode):
    """Refuses what would make a GPU wait for the host, on the device `meta` in its place.

    That device has no numbers, so whatever asks for one fails by itself.
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        found = function(*args, **kwargs)
        name = function.overloadpacket._qualified_op_name
        if name == "aten::_to_copy" and args[0].device != found.device:
            assert found.device == META and kwargs.get("non_blocking"), "a copy that is waited for"
        if name in ("aten::lift_fresh", "aten::copy_"):
            devices = {value.device for value in args if isinstance(value, torch.Tensor)}
            assert devices in ({META}, {torch.device("cpu")}), "a copy that is waited for"
            assert name != "aten::lift_fresh" or META not in devices, "a constant from the host"
        return found


class Asked(TorchDispatchMode):
    """Counts the numbers that Python asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function == torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def on_meta(boxes):
    """Return a function that gives a tiny method on `meta`, its samples and its tokenizer."""
    made: dict[str, Any] = {}

    def get(method):
        if method not in made:
            spec, places = tiny_spec(boxes, method, "baseline")
            dataset, tokenizer = Opened(places).run(spec)
            network = build_method(spec, tokenizer).train().to(META)
            samples = TrainingSamples(
                dataset, "train", network.needs, tokenizer, 0, pseudo_masks=dataset.target
            )
            made[method] = network, samples.batch([0, 1, 2, 3], 0), tokenizer
        return made[method]

    return get


@pytest.mark.parametrize(("method", "strategy"), PAIRS)
def test_nothing_in_the_passes_of_a_step_waits(on_meta, monkeypatch, method, strategy):
    network, raw, tokenizer = on_meta(method)
    # Torch knows no autocast of this device, not even one that is off.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    its = strategies.get(strategy)
    its = its.model_copy(update={key: SETTINGS[key] for key in SETTINGS.keys() & its.settings()})

    def step():
        micro = MicroBatch(
            network=network,
            method=network,
            samples=raw,
            tokenizer=tokenizer,
            seed=0,
            epoch=0,
            key=(0, "step", 0),
            share=1.0,
            add_gradient=lambda loss: loss.backward(),
            device=META,
        )
        return its.step(micro)

    step()  # What is made once may be waited for, such as AMLRIS' projection.
    with Asynchronous():
        losses = step()
    assert {value.device for value in losses.values()} == {META}
    assert any(parameter.grad is not None for parameter in network.parameters())


def started(boxes, folder, method, strategy, precision="fp32", log_every=3, seconds=1e9):
    recipe = {"epochs": 2, "batch_size": 4, "micro_batch": 2, "precision": precision}
    changes = {"patch_size": 8} if strategy != "baseline" else {}
    spec, places = tiny_spec(boxes, method, strategy, recipes={method: recipe}, strategy=changes)
    run = RunDir(folder / spec.key)
    run.create(spec)
    how = Execution.of(device="cpu", checkpoint_seconds=seconds, log_every=log_every)
    return run, Trainer(spec, run, Opened(places), how)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_whole_step_asks_for_no_number(boxes, tmp_path, precision):
    _, trainer = started(boxes, tmp_path, "cris", "maskris", precision)
    order = trainer.samples.order(0, 4, True)
    batches = [[trainer.samples.batch(units, 0)] for units in order[:2]]
    trainer.stepper.optimize(batches[0], 0)
    with Asked() as asked:
        trainer.stepper.enqueue(batches[1], 0)
        before = asked.count
        (taken,) = trainer.stepper.fetch()
    assert before == 0 and taken.step == 2 and math.isfinite(taken.losses["train/loss"])


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_running_ahead_gives_the_same_bytes(boxes, tmp_path, monkeypatch, precision):
    runs = []
    for ahead in (False, True):
        folder = tmp_path / str(ahead)
        folder.mkdir()
        run, trainer = started(boxes, folder, "lavt", "maskris", precision)
        trainer.stepper.asynchronous = ahead
        if precision == "fp16":
            trainer.stepper.updates.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
            poison(monkeypatch, trainer, {6, 7}, inputs=True)
        fetches = []
        fetch = trainer.stepper.fetch

        def counted(fetch=fetch, fetches=fetches):
            fetches.append(fetch())
            return fetches[-1]

        monkeypatch.setattr(trainer.stepper, "fetch", counted)
        trainer.train()
        assert (max(map(len, fetches)) > 1) == ahead
        runs.append(run)
    for name in ("metrics.jsonl", "best.safetensors", "result.json"):
        assert (runs[0].path / name).read_bytes() == (runs[1].path / name).read_bytes()


@pytest.mark.parametrize("gradients", [False, True])
def test_a_step_ahead_that_is_not_finite_is_named_at_the_next_fetch(
    boxes, tmp_path, monkeypatch, gradients
):
    """The steps behind it leave the parameters as they were, and no resume point is written."""
    run, trainer = started(boxes, tmp_path, "lavt", "maskris", log_every=100)
    trainer.state.save()
    kept = (run.path / resume_point.FILE).read_bytes()
    order = trainer.samples.order(0, 4, True)
    if gradients:
        with_steep_term(monkeypatch, trainer)
    else:
        poison(monkeypatch, trainer, {0})
    before = {name: value.clone() for name, value in trainer.method.named_parameters()}
    trainer.stepper.enqueue([trainer.samples.batch(order[0], 0)], 0)
    what = "the gradients" if gradients else "the loss"
    with pytest.raises(UserError, match=f"{what} became nan at step 0"):
        trainer.state.save()
    assert all(torch.equal(before[name], its) for name, its in trainer.method.named_parameters())
    assert (run.path / resume_point.FILE).read_bytes() == kept


def test_a_resume_point_knows_every_step(boxes, tmp_path):
    run, trainer = started(boxes, tmp_path, "cris", "baseline", log_every=100)
    for units in trainer.samples.order(0, 4, True)[:2]:
        trainer.stepper.enqueue([trainer.samples.batch(units, 0)], 0)
    assert math.isnan(trainer.state.loss)
    trainer.state.save()
    state = resume_point.load(run)
    assert state["step"] == 2 and state["logged"]["steps"] == 2
    assert math.isfinite(trainer.state.loss)
