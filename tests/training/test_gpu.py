"""What only a real GPU shows: how it computes, overflows, runs out of memory, and is chosen."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from rich.console import Console
from torch.nn import functional as F

from benchmark.base.errors import UserError
from benchmark.evaluation.devices import pick_device
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training import system_metrics
from benchmark.training.trainer import Trainer
from benchmark.training.worker import work
from methods.precision import computed_in
from tests.helpers import PROJECT, tiny_spec

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")

CUDA = torch.device("cuda")
EXECUTION = Execution.of(device="cuda", checkpoint_seconds=0, log_every=2)
QUIET = Console(quiet=True)


def planned(boxes, folder, precision="fp32", epochs=2, method="lavt"):
    recipe = {"epochs": epochs, "batch_size": 4, "micro_batch": 4, "precision": precision}
    spec, places = tiny_spec(boxes, method, "baseline", recipes={method: recipe})
    run = RunDir(folder / spec.key)
    run.create(spec)
    return run, Opened(places)


def command(*arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "benchmark.cli", *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, "COLUMNS": "500", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def error_of(precision):
    """Return how far a convolution and a product in float32 are from float64, relatively."""
    generator = torch.Generator().manual_seed(0)
    shapes = (4, 64, 32, 32), (64, 64, 3, 3)
    x, kernel = (torch.randn(*shape, generator=generator) for shape in shapes)
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    errors = []
    with computed_in(precision, CUDA):
        for function, left, right in ((F.conv2d, x, kernel), (torch.matmul, a, b)):
            exact = function(left.double(), right.double())
            found = function(left.to(CUDA), right.to(CUDA)).cpu().double()
            errors.append(((found - exact).norm() / exact.norm()).item())
    return errors


def test_fp32_keeps_float32_and_tf32_keeps_ten_bits():
    assert all(error < 2e-6 for error in error_of("fp32"))
    assert all(1e-5 < error < 2e-3 for error in error_of("tf32"))
    # The order in which runs of one process come does not matter.
    assert all(error < 2e-6 for error in error_of("fp32"))


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("method", ["lavt", "cris"])
def test_fp16_lowers_a_scale_that_overflows_until_it_fits(boxes, tmp_path, method):
    """Gradients overflow of themselves here, and the fused optimizer has to notice."""
    run, opened = planned(boxes, tmp_path, "fp16", epochs=4, method=method)
    trainer = Trainer(run.spec(), run, opened, EXECUTION)
    trainer.stepper.updates.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**26)
    before = {name: value.clone() for name, value in trainer.method.state_dict().items()}
    order = trainer.samples.order(0, 4, True)
    trainer.stepper.optimize([trainer.samples.batch(order[0], 0)], 0)
    after = trainer.method.state_dict()
    assert trainer.stepper.updates.skipped == 1
    assert all(torch.equal(before[name], value) for name, value in after.items())
    trainer.train()
    assert run.status().state == "done"
    updates = trainer.stepper.updates
    assert updates.scaler.get_scale() == 2.0 ** (26 - updates.skipped) and updates.skipped < 20
    assert all(value.isfinite().all() for value in trainer.method.state_dict().values())


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_the_chosen_epoch_is_what_the_result_reports(boxes, tmp_path, precision):
    """The curve's val oIoU of the chosen epoch and the result's come of one precision."""
    run, opened = planned(boxes, tmp_path, precision)
    work(run, opened, EXECUTION, QUIET)
    result = run.read_json("result.json")
    curve = run.epoch_values("val", "oiou")
    chosen = curve[result["selected"]["epoch"]]
    assert chosen == pytest.approx(result["val"]["oiou"], abs=1e-9)
    numerics = run.read_json("environment.json")["numerics"]
    assert numerics["device"] == "cuda" and numerics["cudnn_tf32"] == (precision == "tf32")


def test_out_of_memory_is_one_sentence(boxes, tmp_path):
    run, opened = planned(boxes, tmp_path)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        with pytest.raises(UserError, match="the GPU is out of memory: lower recipe.micro_batch"):
            work(run, opened, EXECUTION, QUIET)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert run.recorded_status().state == "failed"


def test_samples_of_the_gpu_are_written(boxes, tmp_path):
    run, _ = planned(boxes, tmp_path)
    with system_metrics.sampled(run, CUDA, interval=0.1):
        kept = torch.ones(2**26, device=CUDA)  # 256 MiB
        time.sleep(1.0)
    lines = (run.path / system_metrics.SYSTEM_METRICS).read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    assert len(samples) >= 2
    assert samples[-1]["gpu_memory_usage_megabytes"] >= kept.nbytes / 1e6
    assert samples[-1]["gpu_power_usage_watts"] > 0


def test_a_gpu_is_chosen_by_its_name_and_never_replaced(boxes, tmp_path, monkeypatch):
    run, _ = planned(boxes, tmp_path)
    arguments = ("resume", run.key, "--runs", tmp_path, "--data", boxes, "--device", "cuda")
    name = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    hidden = command(*arguments, CUDA_VISIBLE_DEVICES="")
    assert hidden.returncode == 2
    assert "torch finds no GPU" in hidden.stderr and "Traceback" not in hidden.stderr
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(torch.cuda.device_count() + 1))
    with pytest.raises(UserError, match="processes take a GPU each"):
        pick_device("cuda")
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    named = command(*arguments, CUDA_VISIBLE_DEVICES=name)
    assert named.returncode == 0, named.stderr
    assert run.status().state == "done"


def test_a_killed_run_goes_on_on_the_gpu(boxes, tmp_path):
    run, _ = planned(boxes, tmp_path, "fp16", epochs=30)
    arguments = ("resume", run.key, "--runs", tmp_path, "--data", boxes, "--device", "cuda")
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmark.cli", *map(str, (*arguments, "--checkpoint-seconds", 0))],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (run.path / "latest.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.kill()
    child.wait()
    again = command(*arguments)
    assert again.returncode == 0, again.stderr
    assert run.status().state == "done"
    steps = [line["step"] for line in run.metrics() if "train/loss" in line]
    assert steps == sorted(set(steps))
