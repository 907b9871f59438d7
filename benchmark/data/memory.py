"""A bound on the preprocessed images and masks that a run keeps in memory."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

# Of the memory of the machine, what the processes of a run may fill together, and what they leave
# free for others, such as other runs.
FILLED = 1 / 4
FREE = 1 / 8
# Where the memory of a container is limited, which a process inside sees nowhere else.
LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def machine_bytes() -> int:
    """Return the memory that the processes of this machine or container may take together."""
    known = [psutil.virtual_memory().total]
    for path in LIMITS:
        try:
            known.append(int(path.read_text()))
        except (OSError, ValueError):
            continue  # There is no such file, or it says that there is no limit.
    return min(known)


class MemoryCache:
    """Arrays that are kept as long as they fit. What does not fit is made anew each time.

    Args:
        bound: bytes of all arrays together. None follows from the memory of the machine, of which
            every process of a run on it gets the same part.
    """

    def __init__(self, bound: int | None = None) -> None:
        if bound is None:
            bound = int(FILLED * machine_bytes()) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self.room = bound
        self.kept: dict[object, np.ndarray] = {}

    def get(self, key: object, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array of a key, which `make` gives where it is not kept."""
        if key in self.kept:
            return self.kept[key]
        array = make()
        if self.room:
            memory = psutil.virtual_memory()
            if self.room < array.nbytes or memory.available < FREE * memory.total:
                self.close()
            else:
                self.room -= array.nbytes
                self.kept[key] = array
        return array

    @property
    def is_full(self) -> bool:
        """Whether nothing more is kept."""
        return self.room == 0

    def close(self) -> None:
        """Keep nothing more than what is kept now."""
        self.room = 0
