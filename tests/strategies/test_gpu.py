"""What strategies that choose by relevance do on a GPU, which must be what they do on a CPU."""

import dataclasses

import pytest
import torch

from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.strategies import cmmasksd
from benchmark.training.trainer import Trainer
from tests.helpers import tiny_spec
from tests.strategies.test_steps import prepared

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")

CUDA = torch.device("cuda")
SETTINGS = {"patch_size": 8, "threshold": 0.2, "word_alpha": 0.6}


def test_the_same_blocks_are_hidden_on_the_gpu(boxes):
    strategy, network, micro = prepared(boxes, "caris", "amlris", strategy=SETTINGS)
    aligned = network.aligned(network(micro().batch, {}, "loss"))
    moved = dataclasses.replace(
        aligned, places=aligned.places.to(CUDA), words=aligned.words.to(CUDA)
    )
    hidden, weak = strategy.hidden(micro(), aligned)
    torch.cuda.set_sync_debug_mode("error")
    try:
        on_gpu, weak_on_gpu = strategy.hidden(micro(), moved)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(on_gpu.cpu(), hidden)
    assert weak_on_gpu.item() == pytest.approx(weak.item(), abs=1e-3)


def test_the_same_patches_are_hidden_on_the_gpu(boxes):
    _, _, micro = prepared(boxes, "cmmasksd", "cmmasksd")
    relevance = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    every = torch.ones(4, 64, dtype=torch.bool)
    found = [
        cmmasksd._hidden(micro(), "hidden patches", relevance.to(device), every, 0.5, 0.25).cpu()
        for device in ("cpu", CUDA)
    ]
    assert torch.equal(*found)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    ("method", "strategy"),
    [
        ("caris", "amlris"),
        ("lavt", "amlris-paper"),
        ("cmmasksd", "cmmasksd"),
        ("cmmasksd", "amlris-random"),
        ("cris", "split-masking"),
    ],
)
def test_a_run_on_the_gpu_ends_with_finite_weights(boxes, tmp_path, method, strategy, precision):
    recipe = {"epochs": 2, "batch_size": 4, "micro_batch": 4, "precision": precision}
    spec, places = tiny_spec(boxes, method, strategy, recipes={method: recipe}, strategy=SETTINGS)
    run = RunDir(tmp_path / spec.key)
    run.create(spec)
    trainer = Trainer(spec, run, Opened(places), Execution.of(device="cuda", log_every=2))
    trainer.train()
    assert run.status().state == "done"
    assert all(value.isfinite().all() for value in trainer.method.state_dict().values())
