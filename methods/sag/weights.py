"""SaG's checkpoints, whose names are the ones of `SagNetwork`.

The published state dict stores the block that all iterations share once per iteration,
and layers that nothing reads. Ours holds the block once and no such layer. On the way
out, the block is repeated and those layers are zero.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from benchmark.base.pretrained import Source
from methods.backbones import bert, vit
from methods.sag.config import SagConfig
from methods.weights import drop_unneeded, join_parts

_IMAGE, _TEXT = "encoders.img_enc", "encoders.txt_enc"
_BLOCKS = f"{_IMAGE}.set_pred_module.agg.agg_blocks."
# The published number of iterations. A state dict does not say how often its one block runs.
_ITERATIONS = 6

UNNEEDED = {
    **bert.UNNEEDED,
    r"agg_blocks\.[1-9]": "the iterations share one block, which is stored once per iteration",
    r"img_backbone\.head\.": "the ViT's classifier is never used",
    r"img_enc\.residual_fc\.": "a layer that is never used",
    r"set_pred_module\.fc\.": "a layer that is never used",
}


def starting_weights(config: SagConfig, source: Source) -> dict[str, Tensor]:
    """Return the ViT's and BERT's published weights.

    `config.pretrained` is `<timm model>+<BERT model>`.

    Raises:
        UserError: they cannot be had or have another layout.
    """
    backbone, text_encoder = config.pretrained.split("+")
    return join_parts(
        {
            f"{_IMAGE}.img_backbone": vit.starting_weights(backbone, source, config.vit.positions),
            f"{_TEXT}.bert": bert.starting_weights(text_encoder, source),
        }
    )


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a flat published state dict that `SagNetwork` has."""
    return drop_unneeded(state, UNNEEDED)


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `SagNetwork.state_dict()` with all that the published code stores beside it.

    That is copies of the block, and zeros for the layers that it never uses.
    """
    copies = {
        # They are clones, since safetensors refuses shared memory.
        name.replace(f"{_BLOCKS}0.", f"{_BLOCKS}{number}."): value.clone()
        for number in range(1, _ITERATIONS)
        for name, value in state.items()
        if name.startswith(_BLOCKS)
    }
    return {**state, **copies, **_unused(state)}


def _unused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    projection = state[f"{_IMAGE}.spm_1x1.weight"]
    width, tokens = projection.shape
    hidden = state[f"{_TEXT}.linear.weight"].shape[1]
    layers = {
        f"{_IMAGE}.img_backbone.head": (1000, tokens),
        f"{_IMAGE}.residual_fc": (width, tokens),
        f"{_IMAGE}.set_pred_module.fc": (2 * width, width),
        f"{_TEXT}.bert.pooler.dense": (hidden, hidden),
    }
    zeros = {f"{name}.weight": projection.new_zeros(shape) for name, shape in layers.items()}
    for name, shape in layers.items():
        zeros[f"{name}.bias"] = projection.new_zeros(shape[0])
    return zeros


def checkpoint(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return `SagNetwork.state_dict()` as a checkpoint for SaG's published code.

    How that code wraps it is not known here. `state_dict` is the usual name.
    """
    return {"state_dict": to_published(state)}
