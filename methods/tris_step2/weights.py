"""Checkpoints of TRIS' second step: published names and ours are the same.

They are wrapped as those of the first step.
"""

from torch import Tensor

from benchmark.base.pretrained import Source
from methods.backbones import clip
from methods.tris.weights import (
    UNNEEDED,
    checkpoint,
    from_published,
    to_published,
    to_published_names,
)
from methods.tris_step2.config import TrisStep2Config

__all__ = [
    "UNNEEDED",
    "checkpoint",
    "from_published",
    "starting_weights",
    "to_published",
    "to_published_names",
]


def starting_weights(config: TrisStep2Config, source: Source) -> dict[str, Tensor]:
    """Return OpenAI's CLIP for both towers.

    Raises:
        UserError: it cannot be had or has another layout.
    """
    towers = clip.starting_weights(config.pretrained, source)
    return {f"backbone.{name}": value for name, value in towers.items()}
