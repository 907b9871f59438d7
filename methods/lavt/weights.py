"""LAVT checkpoints <-> `LavtNetwork`.

A published LAVT checkpoint holds two state dicts: `model` (`backbone.*`, `classifier.*`) and `bert_model` (`embeddings.*`,
`encoder.*`). LAVT-one holds one, `model`, with BERT under `text_encoder.*`. Ours is named as LAVT-one's. The published state
dict also stores `relative_position_index`, which follows from the window and which timm rebuilds.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from methods.backbones import bert, swin
from methods.lavt.network import LavtConfig, LavtNetwork

UNNEEDED = {**swin.UNNEEDED, **bert.UNNEEDED}
_BERT = ("embeddings.", "encoder.")
_PREFIX = "text_encoder."


def starting_weights(config: LavtConfig) -> dict[str, Tensor]:
    """Return Swin's and BERT's published weights; raises a UserError where they cannot be had.

    `config.pretrained` is `<timm model>+<BERT model>`.
    """
    backbone, text_encoder = config.pretrained.split("+")
    return {f"backbone.{name}": value for name, value in swin.starting_weights(backbone).items()} | {
        f"{_PREFIX}{name}": value for name, value in bert.starting_weights(text_encoder).items()
    }


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a flat published state dict of LAVT (both dicts in one) or LAVT-one under the names of
    `LavtNetwork`."""
    return {
        f"{_PREFIX}{name}" if name.startswith(_BERT) else name: value
        for name, value in state.items()
        if not any(re.search(pattern, name) for pattern in UNNEEDED)
    }


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of `LavtNetwork.state_dict()` under LAVT's published names, both state dicts in one.

    The entries that start with `embeddings.` and `encoder.` are `bert_model`, the others `model`.
    """
    everything = {**state, **swin.relative_position_indices(state)}
    return {name.removeprefix(_PREFIX): value for name, value in everything.items()}


def checkpoint(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the entries of `LavtNetwork.state_dict()` as a checkpoint of LAVT's published code: two state dicts."""
    published = to_published(state)
    text_encoder = {name: value for name, value in published.items() if name.startswith(_BERT)}
    return {
        "model": {name: value for name, value in published.items() if name not in text_encoder},
        "bert_model": text_encoder,
    }


def to_published_names(network: LavtNetwork) -> dict[str, str]:
    """Return own parameter name -> published name."""
    return {name: name.removeprefix(_PREFIX) for name, _ in network.named_parameters()}
