"""The GPUs that this process may use, and which of them are free."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICES = Path("/dev")
_NAME = re.compile(r"\d+|(GPU|MIG)-\S+")
_SLACK = 1e-6  # The float sum of three thirds of a card must count as one card.


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    CUDA is not started for it, but its rules hold. A name that is no device (-1, or a number beyond
    the last card) hides all names after it, and a name that comes twice hides all cards. Without
    the variable, every card that has a device file may be used.
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
    """The cards of a launcher, which jobs take and give back.

    Args:
        names: the names of the cards, as CUDA_VISIBLE_DEVICES takes them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.free = dict.fromkeys(names, 1.0)

    def __len__(self) -> int:
        return len(self.free)

    def take(self, wanted: float) -> tuple[str, ...] | None:
        """Take free cards, the emptiest first.

        Args:
            wanted: a fraction of one card, or a number of whole ones.

        Returns:
            The names of the cards, or None where not enough of them are free now.
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
    """Return the number of cards that are wanted, and the fraction of each."""
    if wanted <= 0:
        return 0, 0.0
    return max(1, round(wanted)), min(wanted, 1.0)
