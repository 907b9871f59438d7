"""What a method's `weights.py` offers, and the steps that several of them take.

Such a module is the one place that knows the names of somebody else's checkpoints.
"""

import re
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from benchmark.base.pretrained import Source


class PublishedWeights(Protocol):
    """What a method's module `weights.py` holds.

    The own names are those of the method's attribute `network`. Published state dicts
    are flat, and their names do not start with `module.`.

    Attributes:
        UNNEEDED: regular expression over published names -> why the network has no such
            entry.
    """

    UNNEEDED: dict[str, str]

    def starting_weights(self, config: Any, source: Source) -> dict[str, Tensor]:
        """Return the published weights of the encoders under the own names.

        Args:
            config: the method's configuration. Its `pretrained` names them and is not
                `scratch`.
            source: where weights are looked for.

        Raises:
            UserError: they cannot be had or have another layout. The message says what
                to fetch and where to put it.
        """

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a published state dict under the own names.

        Entries that UNNEEDED matches are left out. Unknown names pass through.
        """

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the network's state dict under published names.

        It also holds every buffer that the authors' code stores.
        """

    def checkpoint(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what `to_published` does, wrapped as in a file of the authors' code."""


def join_parts(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return one state dict for the state dicts of a network's parts.

    Every entry is named `<part>.<name in the part>`.
    """
    return {
        f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()
    }


def drop_unneeded(state: Mapping[str, Tensor], unneeded: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the entries of a published state dict that no pattern of `unneeded` matches."""
    return {
        name: value
        for name, value in state.items()
        if not any(re.search(pattern, name) for pattern in unneeded)
    }
