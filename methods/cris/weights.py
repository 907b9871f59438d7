"""CRIS' checkpoints, whose names are the ones of `CrisNetwork`.

A published run saves `{epoch, cur_iou, best_iou, prec, state_dict, optimizer,
scheduler}`, where names start with `module.`. No official checkpoint was ever published,
so the names are those that the published code would write. ETRIS' runs save the same.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from benchmark.base.pretrained import Source
from methods.backbones import clip
from methods.cris.config import CrisConfig
from methods.weights import join_parts

UNNEEDED: dict[str, str] = {}


def starting_weights(config: CrisConfig, source: Source) -> dict[str, Tensor]:
    """Return OpenAI's CLIP for both towers.

    Raises:
        UserError: it cannot be had or has another layout.
    """
    return join_parts({"backbone": clip.starting_weights(config.pretrained, source)})


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a flat published state dict under the network's names, which are the same."""
    return dict(state)


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's state dict under published names, without `module.`."""
    return dict(state)


def checkpoint(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the network's state dict as a checkpoint of the published code."""
    return {"state_dict": {f"module.{name}": value for name, value in to_published(state).items()}}
