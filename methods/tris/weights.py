"""TRIS checkpoints: published names and ours are the same.

The auxiliary CLIP is no part of a checkpoint. Which entry of a file the published code
saves weights under is not known. Any of the usual ones is read, and `model` is written.
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
    """Return a flat published state dict under the names of `TrisNetwork`."""
    return dict(state)


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `TrisNetwork.state_dict()` under published names."""
    return dict(state)


def checkpoint(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return `TrisNetwork.state_dict()` as a checkpoint."""
    return {"model": to_published(state)}
