"""Which device is taken, and what is said where the one that was asked for cannot be used.

The machines of these tests have no GPU, so torch's answers about one are written for it.
"""

import pytest
import torch
from rich.console import Console

from benchmark.base.errors import UserError
from benchmark.evaluation import devices
from benchmark.evaluation.devices import describe_choice, pick_device
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training.trainer import Trainer
from benchmark.training.worker import work
from tests.helpers import tiny_spec

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def cards(monkeypatch):
    """Return a function that lets torch see some GPUs, which compute or refuse to."""

    def see(count, error=None):
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA X")

        def zeros(*_, device):
            assert device.startswith("cuda")
            if error:
                raise RuntimeError(error)
            return torch.ones(())

        monkeypatch.setattr(devices.torch, "zeros", zeros)

    return see


def test_cuda_without_a_gpu_is_refused(cards, monkeypatch):
    cards(0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UserError, match="since torch finds no GPU: mend it or use --device cpu"):
        pick_device("cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(UserError, match=r"\(CUDA_VISIBLE_DEVICES is '7'\)"):
        pick_device("cuda")


def test_a_card_that_cannot_compute_is_no_gpu(cards):
    cards(1, "CUDA error: no kernel image is available\nCompile with ...")
    with pytest.raises(UserError, match="refuses to compute .*no kernel image is available.: mend"):
        pick_device("cuda")
    assert pick_device("auto") == CPU
    assert "takes the processor, since the GPU refuses" in describe_choice("auto", CPU)


def test_a_torch_without_cuda_says_so(cards, monkeypatch):
    cards(1)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    with pytest.raises(UserError, match="built without CUDA"):
        pick_device("cuda")


@pytest.mark.parametrize("name", ["tpu", "gpu", "cuda:3", ""])
def test_other_names_are_refused_with_those_that_are_known(name):
    with pytest.raises(UserError, match="valid are auto, cpu, cuda"):
        pick_device(name)
    with pytest.raises(UserError, match="valid are auto, cpu, cuda"):
        Execution.of(device=name)


def test_auto_says_what_it_took(cards):
    cards(1)
    assert pick_device("auto") == pick_device("cuda") == CUDA and pick_device("cpu") == CPU
    assert describe_choice("auto", CUDA) == "The device auto takes the GPU NVIDIA X."
    cards(0)
    assert "takes the processor, since torch finds no GPU" in describe_choice("auto", CPU)
    assert describe_choice("cpu", CPU) == "" == describe_choice("cuda", CUDA)


def test_more_processes_than_gpus_are_refused(cards, monkeypatch):
    cards(2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert pick_device("auto") == CUDA
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    for name in ("auto", "cuda"):
        with pytest.raises(UserError, match="3 processes take a GPU each, and torch sees 2"):
            pick_device(name)
    assert pick_device("cpu") == CPU


def test_a_run_never_falls_back_to_the_cpu(cards, boxes, tmp_path):
    """accelerate alone would take the CPU without a word."""
    cards(0)
    spec, places = tiny_spec(boxes)
    run = RunDir(tmp_path / spec.key)
    run.create(spec)
    with pytest.raises(UserError, match="no GPU can be used"):
        Trainer(spec, run, Opened(places), Execution.of(device="cuda"))
    console = Console(record=True)
    with pytest.raises(UserError, match="no GPU can be used"):
        work(run, Opened(places), Execution.of(device="cuda"), console)
    assert run.status().state == "failed" and "no GPU can be used" in run.status().reason
    assert not (run.path / "environment.json").exists()
