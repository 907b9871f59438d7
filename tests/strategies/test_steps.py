"""The two-pass step against the summed loss, the pairing with the baseline, and who sees what."""

import contextlib
import dataclasses

import pytest
import torch
from torch import nn

import methods
from benchmark import strategies
from benchmark.base.rng import generator, reseed_dropout
from benchmark.data.samples import TrainingSamples
from benchmark.evaluation.inference import build_method
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.resolve import resolve_strategy
from benchmark.runs.rundir import RunDir
from benchmark.strategies.maskris import MaskRIS
from benchmark.strategies.strategy import MicroBatch, frozen_running_statistics
from benchmark.training.trainer import Trainer
from methods.contract import Batch, Output
from tests.helpers import tiny_spec

CPU = torch.device("cpu")
METHODS = ("cris", "lavt")


def prepared(boxes, method, name, /, **changes):
    """Return a strategy, a network, and a function that makes the same micro-batch anew."""
    spec, places = tiny_spec(boxes, method, name, **changes)
    dataset, tokenizer = Opened(places).run(spec)
    network = build_method(spec, tokenizer).train()
    # A method that learns from pseudo masks is given the annotated ones here.
    samples = TrainingSamples(
        dataset, "train", network.needs, tokenizer, spec.seed, pseudo_masks=dataset.target
    )
    raw = samples.batch([0, 1, 2, 3], 0)

    def micro(samples=raw):
        return MicroBatch(
            network=lambda *inputs: network(*inputs),
            method=network,
            samples=samples,
            tokenizer=tokenizer,
            seed=spec.seed,
            epoch=0,
            key=(0, "step", 0),
            share=1.0,
            add_gradient=lambda loss: loss.backward(),
            device=CPU,
        )

    return spec.strategy, network, micro


def step(strategy, network, micro):
    network.zero_grad()
    return {name: value.item() for name, value in strategy.step(micro).items()}


@pytest.mark.parametrize("method", METHODS)
def test_two_passes_have_the_gradient_of_the_summed_loss(boxes, method):
    strategy, network, micro = prepared(
        boxes, method, "maskris", strategy={"patch_size": 8, "distill_weight": 0.3}
    )
    network = network.double()
    batch = micro().batch
    batch = Batch(batch.images.double(), batch.text, batch.targets, batch.samples)

    def in_float64():
        its = micro()
        its.__dict__["batch"] = batch
        return its

    losses = step(strategy, network, in_float64())
    two_pass = {
        name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None
    }

    network.zero_grad()
    reseed_dropout(0, "step", 0, "clean pass")
    clean = network(batch, {}, "loss")
    loss_ce = sum(network.loss(clean, batch).values())
    masked = strategy.masked(in_float64(), keep_targets=False)
    reseed_dropout(0, "step", 0, "masked pass")
    student = network(masked, {}, "prediction")
    teacher = Output(
        clean.logits.detach(), {name: value.detach() for name, value in clean.extras.items()}
    )
    total = 0.7 * loss_ce + 0.3 * network.distillation(student, teacher)
    total.backward()

    assert losses["train/loss"] == pytest.approx(total.item(), rel=1e-6)
    assert set(two_pass) == {name for name, p in network.named_parameters() if p.grad is not None}
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(two_pass[name], parameter.grad, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_the_teacher_receives_no_gradient(boxes, method):
    """With w = 1 the clean pass only teaches: its gradient is that of a constant target."""
    strategy, network, micro = prepared(
        boxes, method, "maskris", strategy={"patch_size": 8, "distill_weight": 1.0}
    )
    seen = []
    distillation = network.distillation
    network.distillation = lambda student, teacher: (
        seen.append(teacher) or distillation(student, teacher)
    )
    step(strategy, network, micro())
    assert not seen[0].logits.requires_grad
    assert all(not value.requires_grad for value in seen[0].extras.values())


@pytest.mark.parametrize("method", METHODS)
def test_the_masked_pass_never_sees_the_target(boxes, method):
    strategy, network, micro = prepared(boxes, method, "maskris")
    seen = []
    forward = network.forward
    network.forward = lambda batch, draws, purpose: (
        seen.append((batch, purpose)) or forward(batch, draws, purpose)
    )
    step(strategy, network, micro())
    (clean, first), (masked, second) = seen
    assert (first, second) == ("loss", "prediction")
    assert clean.targets is not None and masked.targets is None
    assert torch.equal(clean.text.attention, masked.text.attention)
    hidden = (masked.images == 0).all(1)
    assert torch.equal(
        masked.images[~hidden.unsqueeze(1).expand_as(masked.images)],
        clean.images[~hidden.unsqueeze(1).expand_as(clean.images)],
    )


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("method", METHODS)
def test_weight_zero_equals_the_baseline_bit_for_bit(boxes, tmp_path, method):
    """design.md: distill_weight 0 with BatchNorm kept out of the masked pass is the baseline."""
    weights = {}
    for strategy in ("baseline", "maskris"):
        spec, places = tiny_spec(
            boxes,
            method,
            strategy,
            strategy={"patch_size": 8, "distill_weight": 0.0, "batchnorm_in_masked_pass": False},
        )
        run = RunDir(tmp_path / spec.key)
        run.create(spec)
        Trainer(spec, run, Opened(places), Execution.of(device="cpu")).train()
        weights[strategy] = (run.path / "best.safetensors").read_bytes()
    assert weights["baseline"] == weights["maskris"]


def test_batchnorm_switch_keeps_running_statistics_out_of_the_masked_pass():
    norm = nn.BatchNorm2d(3).train()
    x = torch.randn(4, 3, 5, 5)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with frozen_running_statistics(norm):
        out = norm(x)
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    assert out.mean().abs() < 1e-6, "batch statistics still normalize"
    norm(x)
    assert not torch.equal(before["running_mean"], norm.running_mean)


@pytest.mark.parametrize("batchnorm", [True, False])
def test_batchnorm_updates_once_or_twice_a_step(boxes, batchnorm):
    strategy, network, micro = prepared(
        boxes, "cris", "maskris", strategy={"patch_size": 8, "batchnorm_in_masked_pass": batchnorm}
    )
    step(strategy, network, micro())
    counts = {
        int(v) for name, v in network.state_dict().items() if name.endswith("num_batches_tracked")
    }
    assert counts == {2 if batchnorm else 1}


def test_masking_without_distillation_is_one_pass_on_half_of_the_samples(boxes):
    strategy, network, micro = prepared(boxes, "cris", "masking")
    seen = []
    forward = network.forward
    network.forward = lambda batch, draws, purpose: (
        seen.append(batch) or forward(batch, draws, purpose)
    )
    losses = step(strategy, network, micro())
    assert len(seen) == 1 and "train/loss_dist" not in losses
    applied = [
        strategy._applies(dataclasses.replace(micro(), epoch=epoch), sample)
        for epoch in range(20)
        for sample in range(100)
    ]
    assert abs(sum(applied) / len(applied) - 0.5) < 0.04
    masks = strategy.image_masks(micro())
    assert [bool(mask.any()) for mask in masks] == [
        strategy._applies(micro(), sample) for sample in range(4)
    ]


def test_table_3_has_its_seven_rows():
    family = [s for _, s in strategies.STRATEGIES.items() if isinstance(s, MaskRIS)]
    rows = {(s.image_mask, s.text_mask, s.distillation) for s in family}
    switches = {(i, t, d) for i in (False, True) for t in (False, True) for d in (False, True)}
    # The baseline is the row without any. Distilling from the same input is no row.
    assert rows == switches - {(False, False, False), (False, False, True)}


def resolved(name, changes):
    definition = methods.definition("lavt")
    config = definition.variants["tiny"].model_copy(update={"size": 96})
    return resolve_strategy(name, changes, definition, config)


def test_settings_that_a_strategy_does_not_use_leave_its_spec_alone():
    changes = {"patch_size": 8, "text_mask_ratio": 0.5, "distill_weight": 0.9}
    assert resolved("baseline", changes) == strategies.get("baseline")
    assert resolved("text-masking", changes).patch_size == 32
    assert resolved("maskris", changes).distill_weight == 0.9


@pytest.mark.parametrize("name", strategies.names())
def test_a_strategy_survives_its_spec(name):
    strategy = strategies.get(name)
    assert strategies.read(strategy.model_dump(mode="json")) == strategy
    assert strategy.heading and strategy.passes >= 1
    assert strategy.tunable() <= strategy.settings()


def test_a_spec_that_was_changed_by_hand_is_no_strategy():
    values = strategies.get("baseline").model_dump(mode="json") | {"patch_size": 8}
    with pytest.raises(ValueError, match="patch_size"):
        strategies.read(values)


def test_draws_depend_on_their_key_alone():
    assert generator(0, "a", 1).random() == generator(0, "a", 1).random()
    assert generator(0, "a", 1).random() != generator(0, "a", 2).random()
    with contextlib.suppress(StopIteration):
        next(iter(generator(0, "b").random(1000)))
    assert generator(0, "a", 1).random() == generator(0, "a", 1).random()
