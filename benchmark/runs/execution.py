"""TODO."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.base.errors import choose


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a data set lies on this machine: no part of any key."""

    root: Path
    images: Path | None = None


@dataclasses.dataclass(frozen=True)
class Execution:
    """Where and how a run is executed: what must not change its numbers, and so is no part of its key.

    Attributes:
        device: `auto`, `cpu` or `cuda`. threads: torch threads. workers: loader processes.
        checkpoint_seconds: wall time between resume points within an epoch. log_every: optimizer steps per metrics line.
    """

    device: str = "auto"
    threads: int = 1
    workers: int = 0
    checkpoint_seconds: float = 60.0
    log_every: int = 10


def execution_of(settings: Mapping[str, Any]) -> Execution:
    """Return how runs are executed; an unknown setting raises a UserError."""
    for field in settings:
        choose(field, [item.name for item in dataclasses.fields(Execution)], "execution setting")
    return Execution(**settings)
