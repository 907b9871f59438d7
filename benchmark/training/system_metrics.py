"""Samples what a run makes of its GPU and of its machine, beside the training.

    runs/<key>/system.jsonl      a line every ten seconds

The numbers differ from run to run, so they stand apart from the metrics of the run.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator

import psutil
import torch

from benchmark.runs.rundir import SYSTEM_METRICS, RunDir

SECONDS = 10.0


@contextlib.contextmanager
def sampled(run: RunDir, device: torch.device, interval: float = SECONDS) -> Iterator[None]:
    """Sample while a block trains on a GPU. On a CPU nothing is sampled.

    Args:
        run: the run directory.
        device: that the run is trained on.
        interval: seconds between two samples.
    """
    if device.type != "cuda":
        yield
        return
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(interval):
            line = json.dumps({"time": time.time(), **system_metrics(device)})
            with (run.path / SYSTEM_METRICS).open("a") as file:
                file.write(f"{line}\n")

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def system_metrics(device: torch.device) -> dict[str, float]:
    """Return the state of a GPU and of its machine, under the names that MLflow uses."""
    memory = psutil.virtual_memory()
    return {
        "gpu_utilization_percentage": torch.cuda.utilization(device),
        "gpu_memory_usage_megabytes": torch.cuda.device_memory_used(device) / 1e6,
        "gpu_power_usage_watts": torch.cuda.power_draw(device) / 1000,
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
    }
