"""Checkpoints of TRIS' second step: published names and ours are the same, and so is how they are wrapped as in the first."""

from torch import Tensor

from methods.backbones import clip
from methods.tris.weights import UNNEEDED, checkpoint, from_published, to_published, to_published_names
from methods.tris_step2.network import TrisStep2Config

__all__ = ["UNNEEDED", "checkpoint", "from_published", "starting_weights", "to_published", "to_published_names"]


def starting_weights(config: TrisStep2Config) -> dict[str, Tensor]:
    """Return OpenAI's CLIP for both towers; raises a UserError where it cannot be had."""
    return {f"backbone.{name}": value for name, value in clip.starting_weights(config.pretrained).items()}
