"""The environment of a run: the code, packages, device and data that it was made with.

It is written beside the numbers of the run and is no part of its key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmark.base.errors import WorldError
from benchmark.data.refer import ReferDataset
from benchmark.runs import integrity
from benchmark.runs.costs import Device
from benchmark.runs.execution import Execution
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "open_clip_torch",
    "accelerate",
    "numpy",
    "pandas",
    "opencv-python",
    "opencv-python-headless",  # has the same module, and one of them is enough
    "pycocotools",
    "pillow",
    "tokenizers",
)


def _git(*arguments: str) -> str:
    """Return what a git command prints about the suite's code, or `unknown` where it fails."""
    folder = Path(__file__).parent
    try:
        process = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return process.stdout.strip() if process.returncode == 0 else "unknown"


@functools.cache
def git_state() -> dict[str, Any]:
    """Return the state of the code, as it was when this process asked for the first time.

    Returns:
        `commit`, the commit or `unknown`, and `dirty`, whether files that git tracks differ from
        it. `dirty` is None where git cannot tell.
    """
    # The repository around an installed package is another one, which does not track it.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) == "unknown":
        return {"commit": "unknown", "dirty": None}
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if "unknown" in (commit, changes) else bool(changes)}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def describe(
    spec: RunSpec, dataset: ReferDataset, execution: Execution, device: Any, world: int
) -> dict[str, Any]:
    """Return the environment of a run, as `environment.json` holds it.

    Args:
        spec: the spec of the run.
        dataset: the data set that the run is trained on.
        execution: how the run is executed.
        device: the `torch.device` that the run is executed on.
        world: the number of processes that share a batch.
    """
    from methods.precision import float32_settings

    return {
        **machine(PACKAGES),
        "device": device_description(execution, device, world).model_dump(),
        "numerics": {
            **dataclasses.asdict(execution.numerics),
            "device": device.type,
            "processes": world,
            **float32_settings(),
        },
        "data": places_of_data(dataset) | {"sha256": spec.data_sha256},
    }


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """Return the code, the machine, and the versions of those packages that are installed."""
    return {"git": git_state(), **hardware(packages)}


def hardware(packages: Iterable[str]) -> dict[str, Any]:
    """Return the machine, and the versions of those packages that are installed."""
    return {
        "python": platform.python_version(),
        "packages": versions(packages),
        "cpu_count": os.cpu_count(),
        "host": platform.node(),
    }


def places_of_data(dataset: ReferDataset) -> dict[str, str]:
    """Return where a data set lies: the `root` of its folders, and the folder of its `images`."""
    return {
        "root": str(dataset.sources[0][1].parent.parent.resolve()),
        "images": str(dataset.folder.resolve()),
    }


def is_described(run: RunDir) -> bool:
    """Return whether the `environment.json` of a run says where it was trained."""
    try:
        is_there = bool(run.read_json("environment.json"))
    except WorldError:
        return False
    return is_there and not integrity.changed(run.path, ["environment.json"])


def device_description(execution: Execution, device: Any, world: int) -> Device:
    """Return what a run is executed on.

    Args:
        execution: how the run is executed.
        device: the `torch.device`.
        world: the number of processes that share a batch.
    """
    if device.type == "cuda":
        import torch

        name = torch.cuda.get_device_name(device)
    else:
        name = processor()
    return Device(type=device.type, name=name, processes=world, threads=execution.numerics.threads)


def processor() -> str:
    """Return the name of the processor, or that of its architecture where no more is known."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(models), platform.processor() or platform.machine())
