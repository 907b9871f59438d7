"""The GPUs of this machine: which there are for this process, and which of them are free."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICES = Path("/dev")
_NAME = re.compile(r"\d+|(GPU|MIG)-\S+")
_SLACK = 1e-6  # three thirds of a card are one card


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    CUDA is not started for it. As there, a name that is no device (-1, or a number beyond the last
    card) hides all that come after it, and a name that comes twice hides all. Without the
    variable, all cards whose device files are there may be used.
    """
    count = len([path for path in DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)])
    listed = os.environ.get(VISIBLE)
    if listed is None:
        return tuple(map(str, range(count)))
    names: list[str] = []
    for name in map(str.strip, listed.split(",")):
        # Without device files (as in some containers) the variable is taken at its word.
        beyond = name.isdigit() and 0 < count <= int(name)
        if beyond or not _NAME.fullmatch(name):
            break
        names.append(name)
    return tuple(names) if len(set(names)) == len(names) else ()


class Gpus:
    """Cards that jobs take and give back.

    Args:
        names: of the cards, as CUDA_VISIBLE_DEVICES takes them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.free = dict.fromkeys(names, 1.0)

    def __len__(self) -> int:
        return len(self.free)

    def take(self, wanted: float) -> tuple[str, ...] | None:
        """Return cards that were free, the emptiest first; None where there are not enough now.

        Args:
            wanted: a share of one card, or a number of whole ones.
        """
        count, share = _parts(wanted)
        emptiest = sorted(self.free, key=lambda name: -round(self.free[name], 6))
        fitting = [name for name in emptiest if self.free[name] + _SLACK >= share]
        if len(fitting) < count:
            return None
        for name in fitting[:count]:
            self.free[name] -= share
        return tuple(fitting[:count])

    def give_back(self, names: Sequence[str], wanted: float) -> None:
        """Free the cards that `take(wanted)` has returned."""
        for name in names:
            self.free[name] += _parts(wanted)[1]


def _parts(wanted: float) -> tuple[int, float]:
    """Return how many cards are wanted, and how much of each."""
    if wanted <= 0:
        return 0, 0.0
    return max(1, round(wanted)), min(wanted, 1.0)
