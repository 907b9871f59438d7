"""What a run was made with: code, packages, device, data. Written beside its numbers, no part of its key."""

import dataclasses
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmark.data.refer import ReferDataset
from benchmark.runs.execution import Execution
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
    "pycocotools",
    "pillow",
    "tokenizers",
)


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def git_state() -> dict[str, Any]:
    """Return the commit of the code and whether files that git tracks differ from it."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if "unknown" in (commit, changes) else bool(changes)}


def _gpu_name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device)


def describe(
    spec: RunSpec, dataset: ReferDataset, execution: Execution, device: Any, world: int
) -> dict[str, Any]:
    """Return the environment of a run."""
    name = (
        _gpu_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    )
    return {
        "git": git_state(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "device": {
            "type": device.type,
            "name": name,
            "processes": world,
            "threads": execution.numerics.threads,
        },
        "numerics": {
            **dataclasses.asdict(execution.numerics),
            "device": device.type,
            "processes": world,
        },
        "cpu_count": os.cpu_count(),
        "host": platform.node(),
        "data": {
            "sha256": spec.data_sha256,
            "root": str(dataset.sources[0][1].parent.parent.resolve()),
            "images": str(dataset.folder.resolve()),
        },
    }
