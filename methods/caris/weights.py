"""CARIS checkpoints <-> `CarisNetwork`. Names are the published ones.

A published checkpoint holds one state dict, `model`, encoders included. MaskRIS' published code trains the same network.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from methods.backbones import bert, swin
from methods.caris.network import CarisConfig, CarisNetwork

UNNEEDED = {
    **swin.UNNEEDED,
    **bert.UNNEEDED,
    r"^criterion\.seg_criterion\.weight$": "the class weights of the loss are configured",
    r"^backbone\.vis_encoder\.mask_token$": "MaskRIS' code has it, but nothing reads it",
}


def starting_weights(config: CarisConfig) -> dict[str, Tensor]:
    """Return Swin's and BERT's published weights; raises a UserError where they cannot be had.

    `config.pretrained` is `<timm model>+<BERT model>`.
    """
    vis_encoder, lang_encoder = config.pretrained.split("+")
    parts = {
        "backbone.vis_encoder": swin.starting_weights(vis_encoder),
        "backbone.lang_encoder": bert.starting_weights(lang_encoder),
    }
    return {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a flat published state dict, of CARIS or MaskRIS, that `CarisNetwork` has."""
    return {name: value for name, value in state.items() if not any(re.search(item, name) for item in UNNEEDED)}


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of `CarisNetwork.state_dict()` with the buffers that CARIS' published code stores beside them."""
    class_weights = torch.tensor([0.9, 1.1])
    return {**state, **swin.relative_position_indices(state), "criterion.seg_criterion.weight": class_weights}


def checkpoint(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the entries of `CarisNetwork.state_dict()` as a checkpoint of CARIS' published code."""
    return {"model": to_published(state)}


def to_published_names(network: CarisNetwork) -> dict[str, str]:
    """Return own parameter name -> published name."""
    return {name: name for name, _ in network.named_parameters()}
