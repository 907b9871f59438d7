"""TRIS' checkpoints, whose names are the ones of the networks of both steps.

The auxiliary CLIP is no part of a checkpoint. It is not known under which entry of a file
the published code saves weights. Any of the usual ones is read, and `model` is written.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from benchmark.base.pretrained import Source
from methods.backbones import clip
from methods.tris.config import TrisConfig
from methods.weights import join_parts

UNNEEDED: dict[str, str] = {}


def starting_weights(config: TrisConfig, source: Source) -> dict[str, Tensor]:
    """Return two of OpenAI's CLIPs.

    The one of both towers is under `backbone.`, the frozen one under `auxiliary.`,
    which is no part of the network. `config.pretrained` is
    `<CLIP of the towers>+<auxiliary CLIP>`.

    Raises:
        UserError: they cannot be had or have another layout.
    """
    towers, frozen = config.pretrained.split("+")
    return join_parts(
        {
            "backbone": clip.starting_weights(towers, source),
            "auxiliary": clip.starting_weights(frozen, source),
        }
    )


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a flat published state dict under the network's names, which are the same."""
    return dict(state)


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's state dict under published names."""
    return dict(state)


def checkpoint(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the network's state dict as a checkpoint."""
    return {"model": to_published(state)}
