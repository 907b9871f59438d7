"""Checkpoints of TRIS' second step, which are named and wrapped as those of the first."""

from torch import Tensor

from benchmark.base.pretrained import Source
from methods.backbones import clip
from methods.tris.weights import UNNEEDED, checkpoint, from_published, to_published
from methods.tris_step2.config import TrisStep2Config
from methods.weights import join_parts

__all__ = ["UNNEEDED", "checkpoint", "from_published", "starting_weights", "to_published"]


def starting_weights(config: TrisStep2Config, source: Source) -> dict[str, Tensor]:
    """Return OpenAI's CLIP for both towers.

    Raises:
        UserError: it cannot be had or has another layout.
    """
    return join_parts({"backbone": clip.starting_weights(config.pretrained, source)})
