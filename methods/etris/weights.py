"""ETRIS' checkpoints, whose names are the ones of `EtrisNetwork`, buffers included.

A published run wraps them as one of CRIS does.
"""

from torch import Tensor

from benchmark.base.pretrained import Source
from methods.backbones import clip
from methods.backbones.positions import resize_positions
from methods.backbones.sizes import VIT_PATCH
from methods.cris.weights import UNNEEDED, checkpoint, from_published, to_published
from methods.etris.config import EtrisConfig
from methods.weights import join_parts

__all__ = ["UNNEEDED", "checkpoint", "from_published", "starting_weights", "to_published"]

_TABLE = "backbone.visual.positional_embedding"


def starting_weights(config: EtrisConfig, source: Source) -> dict[str, Tensor]:
    """Return OpenAI's CLIP for both towers.

    The position table of a ViT is resized to the grid of the input (section 2).

    Raises:
        UserError: it cannot be had or has another layout.
    """
    state = join_parts({"backbone": clip.starting_weights(config.pretrained, source)})
    if _TABLE in state:
        side = config.clip.image_size // VIT_PATCH
        state[_TABLE] = resize_positions(state[_TABLE][None], (side, side), "bicubic")[0]
    return state
