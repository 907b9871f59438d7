"""The rows of a GPU: what the file holds, that failures end nothing, and that the time is kept."""

import io
import json
import subprocess
import sys
import time

import pytest
import torch
from accelerate.state import AcceleratorState
from rich.console import Console

import methods
from benchmark.base.errors import UserError
from tests.speed import gpu
from tests.speed.gpu_rows import Bench, Row, batches_of, prepare, trainer_of

METHOD = methods.names()[0]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    prepare(folder, 24, 2)
    return Bench(folder, "cpu", steps=1, large=False)


def measured(bench, tmp_path, *rows, minutes=5.0):
    """Return the content of the file, which is the same as what is handed back."""
    groups = [gpu.Group((Row("card"), *rows))]
    content = gpu.measure(
        tmp_path / "out.json", bench, groups, minutes, Console(file=io.StringIO())
    )
    assert json.loads((tmp_path / "out.json").read_text())["rows"] == content["rows"]
    return content


@pytest.mark.slow
def test_a_failing_row_ends_no_other(bench, tmp_path):
    good = Row("step", METHOD, "tiny", "baseline", "fp32")
    content = measured(bench, tmp_path, Row("step", METHOD, "huge", "baseline", "fp32"), good)
    assert content["card"]["state"] == "measured" and content["card"]["card"] == "CPU"
    failed, step = content["rows"]
    assert failed["state"] == "failed" and "huge" in failed["reason"] and failed["log"]
    assert step["state"] == "measured" and step["pairs"] == step["batch_size"]
    assert step["pairs_per_second"] == pytest.approx(step["pairs"] / step["median_seconds"])
    speed = step["flops"] / step["median_seconds"]
    assert step["share_of_peak"] == pytest.approx(speed / content["card"]["fp32_flops_per_second"])
    assert content["counts"] == {"measured": 2, "failed": 1}
    gpu.show(content, Console(file=io.StringIO()))


def test_the_time_is_kept_and_what_is_left_is_listed(bench, tmp_path):
    rows = [Row("repeat", name, "tiny", "maskris", "published") for name in methods.names()]
    started = time.monotonic()
    content = measured(bench, tmp_path, *rows, minutes=0.02)
    assert time.monotonic() - started < 20
    assert {row["state"] for row in content["rows"]} == {"not run"}
    assert len(content["rows"]) == len(rows) and content["card"]["state"] == "not run"


def test_a_process_that_hangs_is_a_failed_row(bench, monkeypatch):
    monkeypatch.setattr(gpu, "ROW_SECONDS", 0.2)
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(
        gpu,
        "_start",
        lambda rows, bench, threads, errors: subprocess.Popen(
            sleeping, stdout=subprocess.PIPE, stderr=errors, text=True
        ),
    )
    rows = (Row("card"), Row("loader", METHOD))
    found = [*gpu.outcomes(rows, bench, time.monotonic() + 60, 1)]
    assert [row for row, _ in found] == [*rows]
    assert all("took over" in outcome["reason"] for _, outcome in found)


@pytest.mark.parametrize("name", methods.names())
def test_a_step_goes_through_the_trainer_of_every_method(bench, name):
    trainer = trainer_of(Row("step", name, "tiny", "maskris", "fp32"), bench, batch_size=2)
    losses = trainer.stepper.optimize(next(batches_of(trainer, 1)), 0)
    assert trainer.stepper.step == 1 and torch.isfinite(torch.tensor(losses["train/loss"]))


@pytest.fixture
def forgotten():
    """Let accelerate, which keeps the first device of a process, forget that of the test."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_network_on_another_device_than_asked_is_an_error(bench, forgotten, monkeypatch):
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    with pytest.raises(UserError, match="the device meta where cpu was asked for"):
        trainer_of(Row("step", METHOD, "tiny", "baseline", "fp32"), bench)


def test_all_methods_are_measured_as_published():
    rows = [row for group in gpu.groups("cuda", smoke=False) for row in group.rows]
    assert len(rows) == len(set(rows))
    for name in methods.names():
        steps = [row for row in rows if row.kind == "step" and row.method == name]
        assert {row.variant for row in steps} == {"paper", "small"}
        assert {(row.strategy, row.mode) for row in steps if row.variant == "paper"} >= {
            (strategy, mode) for strategy in gpu.STRATEGIES for mode in ("published", "tf32")
        }
    smoke = [row.kind for group in gpu.groups("cuda", smoke=True) for row in group.rows]
    assert sorted(smoke) == sorted({row.kind for row in rows})
