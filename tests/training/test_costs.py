"""What a run costs is counted right, and counting it changes nothing."""

import itertools
import types

import pytest
import torch
from torch import nn

import methods
from benchmark.base.errors import Interrupted
from benchmark.evaluation import inference
from benchmark.evaluation.timing import Meter
from benchmark.runs.costs import read_costs
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training import costs, report, state
from benchmark.training import trainer as trainer_module
from benchmark.training.trainer import Trainer
from tests.helpers import PROJECT, tiny_spec

CPU = torch.device("cpu")
# A 3x3 convolution of 3 planes into 8 with stride 4 gives 8x8 pixels of a 32x32 image.
TOY_FLOPS = 2 * (3 * 3 * 3) * 8 * (8 * 8)
SIDE = 8


@pytest.fixture
def toy(boxes, monkeypatch):
    """Return the tests' toy method, whose operations are known, with its data."""
    monkeypatch.setenv("RISBENCH_PLUGINS", str(PROJECT / "tests" / "plugins" / "toy_method.py"))
    dataset = Opened(tiny_spec(boxes)[1]).dataset("refcoco", "unc")
    definition = methods.definition("toy")
    config = definition.variants["tiny"]
    tokenizer = Opened(tiny_spec(boxes)[1]).tokenizer(definition, config, dataset)
    return methods.get("toy")(config, tokenizer.size), dataset, tokenizer


def counted(method, dataset, tokenizer):
    return 1e9 * costs.gflops(method, dataset, "val", tokenizer, CPU)


def test_the_operations_are_those_of_the_closed_form(toy):
    assert counted(*toy) == TOY_FLOPS


@pytest.mark.parametrize("kind", ["linear", "attention"])
def test_a_layer_adds_its_operations(toy, kind):
    method, dataset, tokenizer = toy
    width, pixels = 8, SIDE * SIDE
    layer, flops = {
        "linear": (nn.Linear(width, 24), 2 * pixels * width * 24),
        # Four projections of every pixel, and two products of all pixels with all pixels.
        "attention": (
            nn.MultiheadAttention(width, 2, batch_first=True),
            4 * 2 * pixels * width**2 + 2 * 2 * pixels**2 * width,
        ),
    }[kind]
    plain = method.encode_image

    def encode_image(images, draws):
        features = plain(images, draws)
        rows = features.flatten(2).mT
        layer.eval()(*([rows] * 3 if kind == "attention" else [rows]))
        return features

    method.encode_image = encode_image
    assert counted(method, dataset, tokenizer) == TOY_FLOPS + flops


def test_measuring_changes_neither_weights_nor_random_numbers(toy):
    method, dataset, tokenizer = toy
    optimizer = torch.optim.Adam([{"params": [*method.parameters()]}])
    method.train()
    before = torch.get_rng_state(), {name: its.clone() for name, its in method.state_dict().items()}
    fast = torch.backends.mha.get_fastpath_enabled()
    costs.measure(method, optimizer, dataset, "val", tokenizer, CPU)
    assert torch.equal(torch.get_rng_state(), before[0]) and method.training
    assert all(torch.equal(its, before[1][name]) for name, its in method.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_parameters_are_all_and_those_that_are_trained(toy):
    method, dataset, tokenizer = toy
    method.words.weight.requires_grad_(False)
    optimizer = torch.optim.Adam([{"params": [*method.parameters()]}])
    network = costs.measure(method, optimizer, dataset, "val", tokenizer, CPU)
    assert network.parameters == sum(its.numel() for its in method.parameters())
    assert network.trained_parameters == 8 * 3 * 3 * 3 + 8


def test_the_first_steps_of_every_session_are_left_out_of_the_rate():
    first = costs.Spent(Meter(), CPU)
    for seconds in [10.0] * costs.FIRST_STEPS + [2.0, 2.0]:
        first.step(seconds, 8)
    second = costs.Spent(Meter(), CPU)
    second.restore(first.state())
    for seconds in [10.0] * costs.FIRST_STEPS + [4.0]:
        second.step(seconds, 4)
    second.meter.add("evaluation", 5.0, 50)
    found = second.costs(costs.Network(2, 1, 0.1), None)
    assert found.training_images_per_second == (8 + 8 + 4) / (2 + 2 + 4)
    assert found.training_seconds == 2 * 10 * costs.FIRST_STEPS + 8
    assert found.evaluation_expressions_per_second == 10


def test_a_rate_is_not_known_where_an_earlier_version_did_not_count():
    spent = costs.Spent(Meter(), CPU)
    spent.restore({"spent": {"training": 8.0, "evaluation": 4.0, "auxiliary": 0.0}})
    spent.meter.add("evaluation", 1.0, 50)
    found = spent.costs(costs.Network(2, 1, 0.1), None)
    assert found.evaluation_expressions_per_second is None
    assert found.training_images_per_second is None
    assert (found.training_seconds, found.evaluation_seconds) == (8, 5)


def test_the_peak_of_the_process_holds_what_was_allocated():
    before = costs.peak_bytes(CPU)
    ones = torch.ones(before // 4 + 2**24)  # four bytes each, more than the process ever held
    del ones
    assert costs.peak_bytes(CPU) >= before + 2**26 - 2**22


def test_on_a_gpu_the_peak_is_what_torch_allocated_for_the_run(monkeypatch):
    """Nothing here has a GPU, so its two functions are stood in for."""
    allocated = {"most": 7 * 2**30}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: allocated["most"])
    monkeypatch.setattr(
        torch.cuda, "reset_peak_memory_stats", lambda device: allocated.update(most=0)
    )
    spent = costs.Spent(Meter(), torch.device("cuda"))
    assert spent.peak() == 0, "what a plan measured before the run does not count"
    allocated["most"] = 3 * 2**30
    state = spent.state()
    later = costs.Spent(Meter(), torch.device("cuda"))
    later.restore(state)
    assert later.peak() == 3 * 2**30


@pytest.mark.parametrize("method", ["cris", "lavt"])
def test_a_finished_run_has_its_costs(boxes, trained, method):
    run = trained(method, "maskris")
    found = read_costs(run)
    network = inference.load(run, Opened(tiny_spec(boxes)[1]), "cpu").method
    assert found.parameters == sum(its.numel() for its in network.parameters())
    assert 0 < found.trained_parameters <= found.parameters
    assert 0 < found.gflops < 10
    assert found.training_seconds > 0 and found.evaluation_expressions_per_second > 0
    assert found.peak_bytes > 2**26
    assert found.device.type == "cpu" and found.device.threads == 1 and found.device.name
    assert not (run.path / "timing.json").exists()


def test_the_strategy_adds_no_parameter_and_no_operation(trained):
    plain, with_it = (read_costs(trained("lavt", strategy)) for strategy in ("baseline", "maskris"))
    assert (plain.parameters, plain.gflops) == (with_it.parameters, with_it.gflops)


def test_hours_add_up_over_a_resumed_run(boxes, tmp_path, no_pictures, monkeypatch):
    """With a clock that advances by a second a look, two sessions take as long as one."""
    ticks = itertools.count()
    clock = types.SimpleNamespace(monotonic=lambda: float(next(ticks)))
    for module in (trainer_module, state, report):
        monkeypatch.setattr(module, "time", clock)
    spec, places = tiny_spec(boxes, "cris", "baseline")
    execution = Execution.of(device="cpu", checkpoint_seconds=1e9, log_every=2)

    def interrupt(epoch, value):
        raise Interrupted

    def train(folder, **how):
        run = RunDir(folder / spec.key)
        run.create(spec)
        Trainer(spec, run, Opened(places), execution).train(**how)
        return read_costs(run)

    with pytest.raises(Interrupted):
        train(tmp_path / "parts", on_selected=interrupt)
    parts, whole = train(tmp_path / "parts"), train(tmp_path / "whole")
    assert parts.training_seconds == whole.training_seconds > 0
    assert parts.evaluation_seconds == whole.evaluation_seconds > 0
    assert parts.hours == whole.hours
