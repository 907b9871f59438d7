"""Several processes that share a batch compute what one computes, or are refused."""

import os
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from benchmark.base.errors import UserError
from benchmark.data.samples import dealt_shares
from benchmark.runs.rundir import RunDir
from benchmark.training.start import check_dealing
from methods import definition
from tests.helpers import PROJECT, tiny_spec
from tests.training.test_trainer import started

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("units", [1, 2, 7, 12])
def test_weighted_shards_have_the_mean_of_the_batch(units, world):
    """The oracle is the mean over the losses of the samples, dealt here as cards are."""
    micro_batch = 4
    losses = torch.rand(units, dtype=torch.float64)
    processes = torch.zeros(world, dtype=torch.float64)
    for rank in range(world):
        shares = dealt_shares(units, micro_batch, rank, world)
        for share, start in zip(shares, range(0, units, micro_batch), strict=True):
            own = losses[start : start + micro_batch][rank::world]
            # A process without a sample works on another's.
            processes[rank] += share * (own if len(own) else losses[start : start + 1]).mean()
    assert processes.mean() == pytest.approx(losses.mean())


@pytest.mark.parametrize("method", ["lavt", "caris", "sag", "tris"])
def test_a_loss_with_a_denominator_of_the_batch_is_not_dealt(method):
    with pytest.raises(UserError, match="depends on the samples of a batch .* --processes 1"):
        check_dealing(definition(method), 16, 2, CUDA)


@pytest.mark.parametrize("method", ["cris", "etris", "tris_step2"])
def test_batchnorm_is_shared_on_gpus_where_each_process_has_a_sample(method):
    check_dealing(definition(method), 2, 2, CUDA)
    with pytest.raises(UserError, match="a micro-batch of 2 leaves some of 3 processes without"):
        check_dealing(definition(method), 2, 3, CUDA)
    with pytest.raises(UserError, match="BatchNorm, which processes share on GPUs alone"):
        check_dealing(definition(method), 16, 2, CPU)


def test_a_run_is_refused_before_it_begins(boxes, tmp_path, monkeypatch):
    spec, places = tiny_spec(boxes, "cris", "baseline")
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    with pytest.raises(UserError, match="on GPUs alone: start it with --processes 1"):
        started(spec, places, tmp_path)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [5, 17], ids=["uneven shards", "one sample for two"])
def test_two_processes_log_and_learn_what_one_does(boxes, tmp_path, monkeypatch, batch_size):
    """The toy has no dropout, so nothing but the order of sums may differ."""
    monkeypatch.setenv("RISBENCH_PLUGINS", str(PROJECT / "tests" / "plugins" / "toy_method.py"))
    recipe = {
        "epochs": 2,
        "batch_size": batch_size,
        "micro_batch": batch_size,
        "learning_rate": 1e-4,
        "drop_last": False,
    }
    spec, places = tiny_spec(boxes, "toy", "baseline", recipes={"toy": recipe})
    runs = []
    for processes in (1, 2):
        run = RunDir(tmp_path / str(processes) / spec.key)
        run.create(spec)
        torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
        command = [sys.executable, "-m", *(torchrun if processes == 2 else []), "benchmark.cli"]
        command += ["resume", run.key, "--runs", str(run.path.parent), "--data", str(places.data)]
        command += ["--device", "cpu", "--processes", str(processes), "--log-every", "1"]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert run.status().state == "done"
        runs.append(run)
    one, two = runs
    lines = [[line for line in run.metrics() if "train/loss" in line] for run in runs]
    assert len(lines[0]) == len(lines[1]) > 3
    for first, second in zip(*lines, strict=True):
        assert second["train/loss"] == pytest.approx(first["train/loss"], rel=1e-5)
    weights = [load_file(run.path / "best.safetensors") for run in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-6)
    assert two.records("val").sent_id.tolist() == one.records("val").sent_id.tolist()
