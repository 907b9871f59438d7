"""Passes with less memory compute the same step, and compiled ones are one graph each."""

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

import methods
from benchmark.base.errors import UserError
from benchmark.data.samples import TrainingSamples
from benchmark.evaluation.inference import build_method
from benchmark.runs.execution import Execution, Numerics
from benchmark.runs.opened import Opened
from benchmark.strategies.strategy import MicroBatch
from benchmark.training import passes
from tests.helpers import tiny_spec

CPU = torch.device("cpu")
NAMES = methods.names()


def prepared(boxes, method, name="maskris", precision="fp32"):
    """Return a function that gives the network anew, and one that takes a step with it."""
    settings = {"patch_size": 8} if name == "maskris" else {}
    spec, places = tiny_spec(boxes, method, name, strategy=settings)
    dataset, tokenizer = Opened(places).run(spec)

    def build():
        network = build_method(spec, tokenizer).train()
        network.precision = precision
        return network

    def step(network, number=0):
        samples = TrainingSamples(
            dataset, "train", network.needs, tokenizer, 0, pseudo_masks=dataset.target
        )
        micro = MicroBatch(
            network=network,
            method=network,
            samples=samples.batch([4 * number, 4 * number + 1, 4 * number + 2], 0),
            tokenizer=tokenizer,
            seed=0,
            epoch=0,
            key=(0, "step", number),
            share=1.0,
            add_gradient=lambda loss: loss.backward(),
            device=CPU,
        )
        return spec.strategy.step(micro)

    return build, step


class Kept:
    """Counts the bytes that forward passes keep for the backward pass."""

    def __init__(self, network):
        self.weights = {parameter.data_ptr() for parameter in network.parameters()}
        self.bytes = 0
        self.seen = set()

    def pack(self, value):
        storage = value.untyped_storage()
        if storage.data_ptr() not in self.weights | self.seen:
            self.seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return value

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda value: value)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)


def kept_bytes(network, step):
    """Return the bytes that the forward pass of a step keeps."""
    with Kept(network) as kept:
        step(network)
    return kept.bytes


@pytest.mark.parametrize("method", NAMES)
def test_blocks_that_are_computed_again_change_no_bit(boxes, monkeypatch, method):
    build, step = prepared(boxes, method)
    plain, short = build(), build()
    calls = []
    again = passes._recomputed

    def counted(block, *inputs, **more):
        calls.append(type(block))
        return again(block, *inputs, **more)

    monkeypatch.setattr(passes, "_recomputed", counted)
    passes.recompute_blocks(short)
    for number in range(2):
        losses = [step(network, number) for network in (plain, short)]
        assert losses[0].keys() == losses[1].keys()
        assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    kinds = {type(its) for its in plain.network.modules() if isinstance(its, plain.blocks)}
    assert {*calls} == kinds, "every kind of block is computed again"
    grads = [dict(network.named_parameters()) for network in (plain, short)]
    for name, parameter in grads[0].items():
        assert (parameter.grad is None) == (grads[1][name].grad is None), name
        assert parameter.grad is None or torch.equal(parameter.grad, grads[1][name].grad), name
    states = [network.state_dict() for network in (plain, short)]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    norms = [module for module in short.modules() if isinstance(module, _BatchNorm)]
    assert all(norm.track_running_stats and norm.num_batches_tracked > 0 for norm in norms)


@pytest.mark.parametrize("method", NAMES)
def test_they_keep_less(boxes, method):
    build, step = prepared(boxes, method, "baseline")
    plain, short = build(), build()
    passes.recompute_blocks(short)
    assert kept_bytes(short, step) < 0.8 * kept_bytes(plain, step)


@pytest.mark.parametrize("method", ["cris", "lavt"])
def test_they_change_no_bit_under_autocast(boxes, method):
    build, step = prepared(boxes, method, precision="bf16")
    plain, short = build(), build()
    passes.recompute_blocks(short)
    losses = [step(network) for network in (plain, short)]
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    for first, second in zip(plain.parameters(), short.parameters(), strict=True):
        assert first.grad is None or torch.equal(first.grad, second.grad)


def test_no_block_contains_another():
    for name in NAMES:
        method = methods.get(name)
        with torch.device("meta"):
            network = method(method.definition.variants["tiny"], 120)
        assert method.blocks, name
        for module in network.modules():
            if isinstance(module, method.blocks):
                assert not any(isinstance(its, method.blocks) for its in [*module.modules()][1:])


def test_a_method_without_blocks_says_so(boxes, monkeypatch):
    build, _ = prepared(boxes, "cris", "baseline")
    network = build()
    monkeypatch.setattr(type(network), "blocks", ())
    with pytest.raises(UserError, match="cris names no blocks .* set checkpointing to false"):
        passes.prepare(network, Numerics(checkpointing=True))


@pytest.mark.slow
@pytest.mark.parametrize("method", NAMES)
def test_every_pass_of_a_step_is_one_graph(boxes, method):
    """Torch refuses a pass that it would have to break, and the state keeps its names."""
    torch._dynamo.reset()
    build, step = prepared(boxes, method)
    plain, compiled = build(), build()
    passes.compile_passes(compiled, backend="eager")
    losses = [step(network) for network in (plain, compiled)]
    assert list(plain.state_dict()) == list(compiled.state_dict())
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value)
    torch._dynamo.reset()


def test_the_settings_are_numerics_and_switches():
    execution = Execution.of(compile=True)
    assert execution.numerics.compile and not execution.numerics.checkpointing
    for wrong in (1, "yes", None):
        with pytest.raises(UserError, match="checkpointing is .* and must be true or false"):
            Execution.of(checkpointing=wrong)
    with pytest.raises(UserError, match="set compile or checkpointing to false"):
        execution.changed(checkpointing=True)
