"""TRIS checkpoints: published names and ours are the same.

The auxiliary CLIP is no part of a checkpoint. Which entry of a file the published code saves weights under is not known; any of
the usual ones is read, and `model` is written.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from methods.backbones import clip
from methods.tris.network import TrisConfig

UNNEEDED: dict[str, str] = {}


def starting_weights(config: TrisConfig) -> dict[str, Tensor]:
    """Return OpenAI's CLIPs: both towers under `backbone.`, and the frozen one under `auxiliary.`, which is no part of the
    network; raises a UserError where they cannot be had.

    `config.pretrained` is `<CLIP of the towers>+<auxiliary CLIP>`.
    """
    return {
        f"{prefix}.{name}": value
        for prefix, source in zip(("backbone", "auxiliary"), config.pretrained.split("+"), strict=True)
        for name, value in clip.starting_weights(source).items()
    }


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a flat published state dict under the names of `TrisNetwork`."""
    return dict(state)


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of `TrisNetwork.state_dict()` under published names."""
    return dict(state)


def checkpoint(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the entries of `TrisNetwork.state_dict()` as a checkpoint."""
    return {"model": to_published(state)}


def to_published_names(network: nn.Module) -> dict[str, str]:
    """Return own parameter name -> published name."""
    return {name: name for name, _ in network.named_parameters()}
