"""ETRIS' checkpoints, whose names are the ones of `EtrisNetwork`, buffers included.

A published run wraps them as one of CRIS does.
"""

from torch import Tensor

from benchmark.base.pretrained import Source
from methods.backbones import clip
from methods.cris.weights import UNNEEDED, checkpoint, from_published, to_published
from methods.etris.config import EtrisConfig
from methods.weights import join_parts

__all__ = ["UNNEEDED", "checkpoint", "from_published", "starting_weights", "to_published"]


def starting_weights(config: EtrisConfig, source: Source) -> dict[str, Tensor]:
    """Return OpenAI's CLIP for both towers.

    The position table of a ViT is resized to the grid of the input (section 2).

    Raises:
        UserError: it cannot be had or has another layout.
    """
    state = clip.starting_weights(config.pretrained, source)
    return join_parts({"backbone": clip.resized_positions(state, config.clip.image_size)})
