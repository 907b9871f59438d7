"""ETRIS checkpoints: published names and ours are the same, buffers included.

A published run saves `{epoch, cur_iou, best_iou, prec, state_dict, optimizer,
scheduler}` with `module.`-prefixed names, as CRIS does.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from benchmark.base.pretrained import Source
from methods.backbones import clip
from methods.backbones.sizes import VIT_PATCH
from methods.etris.config import EtrisConfig

UNNEEDED: dict[str, str] = {}
_TABLE = "backbone.visual.positional_embedding"


def starting_weights(config: EtrisConfig, source: Source) -> dict[str, Tensor]:
    """Return OpenAI's CLIP for both towers.

    A ViT's position table is resized to the input.

    Raises:
        UserError: it cannot be had or has another layout.
    """
    towers = clip.starting_weights(config.pretrained, source)
    state = {f"backbone.{name}": value for name, value in towers.items()}
    if _TABLE in state:
        side = config.clip.image_size // VIT_PATCH
        state[_TABLE] = clip.resize_position_table(state[_TABLE], side)
    return state


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a flat published state dict under the names of `EtrisNetwork`."""
    return dict(state)


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `EtrisNetwork.state_dict()` under published names, without `module.`."""
    return dict(state)


def checkpoint(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return `EtrisNetwork.state_dict()` as a checkpoint of the published code."""
    return {"state_dict": {f"module.{name}": value for name, value in to_published(state).items()}}


def to_published_names(network: nn.Module) -> dict[str, str]:
    """Return own parameter name -> published name."""
    return {name: name for name, _ in network.named_parameters()}
