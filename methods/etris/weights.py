"""ETRIS checkpoints: published names and ours are the same, buffers included.

A published run saves `{epoch, cur_iou, best_iou, prec, state_dict, optimizer, scheduler}` with `module.`-prefixed names, as CRIS
does.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from methods.backbones import clip
from methods.etris.network import EtrisConfig

UNNEEDED: dict[str, str] = {}
_TABLE = "backbone.visual.positional_embedding"


def starting_weights(config: EtrisConfig) -> dict[str, Tensor]:
    """Return OpenAI's CLIP for both towers, a ViT's position table resized to the input; raises a UserError where it cannot
    be had."""
    state = {f"backbone.{name}": value for name, value in clip.starting_weights(config.pretrained).items()}
    if _TABLE in state:
        state[_TABLE] = clip.resize_position_table(state[_TABLE], config.clip.image_size // clip.VIT_PATCH)
    return state


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a flat published state dict under the names of `EtrisNetwork`."""
    return dict(state)


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of `EtrisNetwork.state_dict()` under published names, without `module.`."""
    return dict(state)


def checkpoint(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the entries of `EtrisNetwork.state_dict()` as a checkpoint of the published code."""
    return {"state_dict": {f"module.{name}": value for name, value in to_published(state).items()}}


def to_published_names(network: nn.Module) -> dict[str, str]:
    """Return own parameter name -> published name."""
    return {name: name for name, _ in network.named_parameters()}
