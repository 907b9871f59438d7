"""What only a real GPU shows: how it computes, overflows, runs out of memory, and is chosen."""

import json
import math
import os
import subprocess
import sys
import time

import pytest
import torch
from rich.console import Console
from torch.nn import functional as F

import methods
from benchmark.base.errors import UserError
from benchmark.data.images import EvaluationImages
from benchmark.evaluation.devices import pick_device
from benchmark.evaluation.predict import evaluate, predict
from benchmark.evaluation.records import frame, records_of
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training import pseudo_masks, system_metrics
from benchmark.training.trainer import Trainer
from benchmark.training.worker import work
from methods.precision import computed_in
from tests.helpers import PROJECT, tiny_spec
from tests.training.test_updates import poison

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


STRATEGIES = ("baseline", "maskris", "amlris", "split-masking")
PAIRS = [(method, strategy) for method in methods.names() for strategy in STRATEGIES]
PAIRS += [("cmmasksd", "cmmasksd")]


@pytest.fixture
def annotated(monkeypatch):
    """Give a method that learns from pseudo masks the annotated ones, see `trainer_of`."""
    monkeypatch.setattr(pseudo_masks, "reader", lambda runs, key: None)


def trainer_of(boxes, folder, method, strategy="baseline", precision="fp32", **how):
    recipe = {"epochs": 2, "batch_size": 4, "micro_batch": 4, "precision": precision}
    settings = {} if strategy in ("baseline", "cmmasksd") else {"patch_size": 8}
    spec, places = tiny_spec(boxes, method, strategy, recipes={method: recipe}, strategy=settings)
    run = RunDir(folder / spec.key)
    run.create(spec)
    execution = EXECUTION.changed(checkpoint_seconds=1e9, **how)
    trainer = Trainer(spec, run, Opened(places), execution)
    trainer.samples.pseudo_masks = trainer.dataset.target
    trainer.stepper.network.train()
    return trainer


def raw_batches(trainer):
    order = trainer.samples.order(0, 4, True)
    return [trainer.samples.batch(units, 0) for units in order]


@pytest.mark.usefixtures("annotated")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(("method", "strategy"), PAIRS)
def test_no_step_waits_for_the_gpu(boxes, tmp_path, method, strategy, precision):
    trainer = trainer_of(boxes, tmp_path, method, strategy, precision)
    assert trainer.stepper.asynchronous
    first, second, *_ = raw_batches(trainer)
    # What is made once may be waited for.
    trainer.stepper.optimize([first], 0)
    trainer.stepper.optimize([second], 0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.stepper.enqueue([first], 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    (taken,) = trainer.stepper.fetch()
    assert taken.step == 3
    assert precision == "fp16" or math.isfinite(taken.losses["train/loss"])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_gpu_takes_no_step_that_is_not_finite(boxes, tmp_path, monkeypatch, precision):
    trainer = trainer_of(boxes, tmp_path, "cris", "maskris", precision)
    trainer.stepper.updates.scaler = torch.amp.GradScaler(
        "cuda", init_scale=16.0, enabled=precision == "fp16"
    )
    poison(monkeypatch, trainer, {1, 2})
    first, second, *_ = raw_batches(trainer)
    trainer.stepper.optimize([first], 0)
    before = {name: value.clone() for name, value in trainer.method.named_parameters()}
    trainer.stepper.enqueue([second], 0)
    trainer.stepper.enqueue([first], 0)
    assert all(torch.equal(before[name], its) for name, its in trainer.method.named_parameters())
    if precision == "fp32":
        with pytest.raises(UserError, match="the loss became nan at step 1"):
            trainer.stepper.fetch()
    else:
        assert [its.counts["train/skipped_steps"] for its in trainer.stepper.fetch()] == [1, 2]
        assert trainer.stepper.updates.scaler.get_scale() == 4.0


@pytest.mark.usefixtures("no_pictures")
def test_a_run_ahead_logs_what_each_step_fetched_would(boxes, tmp_path):
    lines = []
    for ahead in (False, True):
        trainer = trainer_of(boxes, tmp_path / str(ahead), "cris", log_every=3)
        trainer.stepper.asynchronous = ahead
        trainer.train()
        lines.append([its for its in trainer.run.metrics() if "train/loss" in its])
    assert [its["step"] for its in lines[0]] == [its["step"] for its in lines[1]]
    # Sums of atomic additions come in another order each time.
    for first, second in zip(*lines, strict=True):
        assert second["train/loss"] == pytest.approx(first["train/loss"], rel=1e-2)


@pytest.mark.usefixtures("annotated")
@pytest.mark.parametrize("method", methods.names())
def test_blocks_that_are_computed_again_take_the_same_step_in_less_memory(boxes, tmp_path, method):
    losses, peaks, weights = [], [], []
    for again in (False, True):
        trainer = trainer_of(boxes, tmp_path / str(again), method, checkpointing=again)
        raw = raw_batches(trainer)[0]
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        losses.append(trainer.stepper.optimize([raw], 0)["train/loss"])
        peaks.append(torch.cuda.max_memory_allocated() - start)
        weights.append(trainer.method.state_dict())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4)
    print(method, "peak bytes of a step, plain and again:", peaks)


@pytest.mark.usefixtures("annotated")
@pytest.mark.slow
@pytest.mark.parametrize("method", methods.names())
def test_a_compiled_step_is_the_step(boxes, tmp_path, method):
    """Without dropout, whose numbers are others when it is compiled."""
    torch._dynamo.reset()
    losses = []
    for compiled in (False, True):
        trainer = trainer_of(boxes, tmp_path / str(compiled), method, compile=compiled)
        for module in trainer.method.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if isinstance(getattr(module, "drop_prob", None), float):
                module.drop_prob = 0.0
            if isinstance(module, torch.nn.MultiheadAttention):
                module.dropout = 0.0
        losses.append(
            [trainer.stepper.optimize([raw], 0)["train/loss"] for raw in raw_batches(trainer)[:3]]
        )
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_pinned_memory(boxes, tmp_path, workers):
    trainer = trainer_of(boxes, tmp_path, "tris", workers=workers)
    first = next(trainer._batches())[0]
    same = trainer.samples.batch(first.samples, 0)
    found = (first.images, first.text.ids, first.text.attention, first.negatives.ids)
    expected = (same.images, same.text.ids, same.text.attention, same.negatives.ids)
    assert all(value.is_pinned() for value in found)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_masks_that_are_decided_while_the_gpu_goes_on_are_the_same(boxes, tmp_path):
    trainer = trainer_of(boxes, tmp_path, "lavt")
    method = trainer.method.eval()
    ahead = evaluate(method, trainer.dataset, "val", trainer.tokenizer, CUDA, images_at_once=1)
    with torch.no_grad():
        alone = [
            row
            for image in EvaluationImages(trainer.dataset, "val", method.needs)
            for prediction in predict(method, [image], trainer.tokenizer, CUDA)
            for row in records_of(prediction)
        ]
    columns = ["intersection", "union"]
    assert (ahead[columns] - frame(alone)[columns]).abs().to_numpy().max() <= 2


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
