"""Steps that this machine has timed already, so that the next plan need not time them again.

A time is that of the same run, packages, code and processor. Nothing is kept of a step on a GPU,
since only torch knows which one would take it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import benchmark
import methods
from benchmark.base import cache
from benchmark.base.registry import plugin_files
from benchmark.launch.gpus import visible_gpus
from benchmark.runs import environment
from benchmark.runs.execution import Execution
from benchmark.runs.spec import RunSpec

KIND = "timed_steps"
# What these rooms hold decides the time of a step and the size of a network.
ROOMS = ("base", "data", "strategies", "training", "evaluation", "runs")


@dataclasses.dataclass(frozen=True)
class Timed:
    """What is kept of a network.

    Attributes:
        parameters: number of its parameters.
        kept: bytes of the disk that a run keeps.
        under_way: bytes that it takes beyond these while it is trained.
        seconds: least time of a training step, or None where a run cannot be trained yet.
        age: seconds since that was measured.
    """

    parameters: int
    kept: int
    under_way: int
    seconds: float | None
    age: float = 0.0


def recall(spec: RunSpec, execution: Execution) -> Timed | None:
    """Return what this machine has measured of a run, or None where nothing is known."""
    if (key := _key(spec, execution)) is None or (text := cache.recall(KIND, key)) is None:
        return None
    try:
        return Timed(**json.loads(text), age=cache.age(KIND, key) or 0.0)
    except (ValueError, TypeError):
        return None


def keep(spec: RunSpec, execution: Execution, timed: Timed) -> None:
    """Keep what was measured of a run, unless other programs took the processor meanwhile."""
    is_busy = os.getloadavg()[0] > (os.cpu_count() or 1)
    if not is_busy and (key := _key(spec, execution)) is not None:
        values = dataclasses.asdict(timed)
        del values["age"]
        cache.keep(KIND, key, json.dumps(values))


def _key(spec: RunSpec, execution: Execution) -> str | None:
    device = execution.numerics.device
    if device == "cuda" or (device == "auto" and visible_gpus()):
        return None
    numerics = dataclasses.asdict(execution.numerics)
    return cache.key_of(spec.model_dump_json(), numerics, _machine(), _code())


@functools.cache
def _machine() -> dict[str, Any]:
    here = environment.hardware(environment.PACKAGES)
    return here | {"processor": environment.processor()}


@functools.cache
def _code() -> str:
    digest = hashlib.sha256()
    for path in _modules():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _modules() -> Iterator[Path]:
    yield from sorted(Path(methods.__file__).parent.rglob("*.py"))
    for room in ROOMS:
        yield from sorted((Path(benchmark.__file__).parent / room).rglob("*.py"))
    yield from plugin_files()
