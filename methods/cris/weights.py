"""CRIS checkpoints: published names and ours are the same.

A published run saves `{epoch, cur_iou, best_iou, prec, state_dict, optimizer, scheduler}` with `module.`-prefixed names. No
official checkpoint was ever published; these are the names that the published code would write.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from methods.backbones import clip
from methods.cris.network import CrisConfig

UNNEEDED: dict[str, str] = {}


def starting_weights(config: CrisConfig) -> dict[str, Tensor]:
    """Return OpenAI's CLIP for both towers; raises a UserError where it cannot be had."""
    return {f"backbone.{name}": value for name, value in clip.starting_weights(config.pretrained).items()}


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a flat published state dict under the names of `CrisNetwork`."""
    return dict(state)


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of `CrisNetwork.state_dict()` under published names, without `module.`."""
    return dict(state)


def checkpoint(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the entries of `CrisNetwork.state_dict()` as a checkpoint of the published code."""
    return {"state_dict": {f"module.{name}": value for name, value in to_published(state).items()}}


def to_published_names(network: nn.Module) -> dict[str, str]:
    """Return own parameter name -> published name."""
    return {name: name for name, _ in network.named_parameters()}
