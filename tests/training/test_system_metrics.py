"""The state of GPU and machine, sampled beside training."""

import json
import time

import pytest
import torch

from benchmark.runs.rundir import RunDir
from benchmark.training.system_metrics import sampled


@pytest.fixture
def gpu(monkeypatch):
    """Let torch answer as if there were a GPU."""
    answers = {"utilization": 87, "device_memory_used": 2_000_000_000, "power_draw": 350_000}
    for name, value in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    return torch.device("cuda")


def test_samples_are_written_while_the_block_runs_and_not_after(gpu, tmp_path):
    run = RunDir(tmp_path)
    with sampled(run, gpu, interval=0.01):
        deadline = time.monotonic() + 10
        while not (tmp_path / "system.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    lines = [json.loads(line) for line in (tmp_path / "system.jsonl").read_text().splitlines()]
    assert lines[0]["gpu_utilization_percentage"] == 87
    assert lines[0]["gpu_memory_usage_megabytes"] == 2000
    assert lines[0]["gpu_power_usage_watts"] == 350
    assert abs(lines[0]["time"] - time.time()) < 60
    time.sleep(0.05)
    assert len((tmp_path / "system.jsonl").read_text().splitlines()) == len(lines)


def test_nothing_is_sampled_on_a_cpu(tmp_path):
    with sampled(RunDir(tmp_path), torch.device("cpu"), interval=0.001):
        time.sleep(0.02)
    assert not any(tmp_path.iterdir())
