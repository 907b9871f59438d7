"""CARIS' checkpoints, whose names are the ones of `CarisNetwork`.

A published checkpoint holds one state dict, `model`, encoders included. MaskRIS'
published code trains the same network, and so does AMLRIS'.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmark.base.pretrained import Source
from methods.backbones import bert, swin
from methods.caris.config import CarisConfig
from methods.weights import drop_unneeded, join_parts

UNNEEDED = {
    **swin.UNNEEDED,
    **bert.UNNEEDED,
    r"^criterion\.seg_criterion\.weight$": "the class weights of the loss are configured",
    r"^backbone\.vis_encoder\.mask_token$": "MaskRIS' code has it, but nothing reads it",
    r"^aug\.": "AMLRIS' code has this projection, which training alone reads",
    r"^criterion\.ce_loss\.weight$": "the class weights of the loss are configured",
}


def starting_weights(config: CarisConfig, source: Source) -> dict[str, Tensor]:
    """Return Swin's and BERT's published weights.

    `config.pretrained` is `<timm model>+<BERT model>`.

    Raises:
        UserError: they cannot be had or have another layout.
    """
    vis_encoder, lang_encoder = config.pretrained.split("+")
    return join_parts(
        {
            "backbone.vis_encoder": swin.starting_weights(vis_encoder, source),
            "backbone.lang_encoder": bert.starting_weights(lang_encoder, source),
        }
    )


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of CARIS' or MaskRIS' flat state dict that `CarisNetwork` has."""
    return drop_unneeded(state, UNNEEDED)


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `CarisNetwork.state_dict()` with the buffers of CARIS' published code."""
    return {
        **state,
        **swin.relative_position_indices(state),
        "criterion.seg_criterion.weight": torch.tensor([0.9, 1.1]),
    }


def checkpoint(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return `CarisNetwork.state_dict()` as a checkpoint of CARIS' published code."""
    return {"model": to_published(state)}
