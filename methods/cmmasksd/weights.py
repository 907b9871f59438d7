"""CM-MaskSD's starting weights. No checkpoint of it was ever published.

Files of this suite have the network's own names, wrapped as a run of CRIS wraps them.
"""

from torch import Tensor

from benchmark.base.pretrained import Source
from methods.backbones import clip
from methods.cmmasksd.config import CMMaskSDConfig
from methods.cris.weights import UNNEEDED, checkpoint, from_published, to_published
from methods.weights import join_parts

__all__ = ["UNNEEDED", "checkpoint", "from_published", "starting_weights", "to_published"]


def starting_weights(config: CMMaskSDConfig, source: Source) -> dict[str, Tensor]:
    """Return OpenAI's CLIP for both towers, with the position table resized to the input's grid.

    Raises:
        UserError: it cannot be had or has another layout.
    """
    state = clip.starting_weights(config.pretrained, source)
    resized = clip.resized_positions(state, config.clip.image_size, config.patch)
    return join_parts({"backbone": resized})
