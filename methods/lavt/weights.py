"""LAVT's checkpoints under the names of `LavtNetwork`, and back.

A published LAVT checkpoint holds two state dicts: `model` (`backbone.*`,
`classifier.*`) and `bert_model` (`embeddings.*`, `encoder.*`). One of LAVT-one holds a
single dict, `model`, with BERT under `text_encoder.*`, and ours is named like it. The
published state dict also stores `relative_position_index`, which follows from the
window and which timm rebuilds.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from benchmark.base.pretrained import Source
from methods.backbones import bert, swin
from methods.lavt.config import LavtConfig
from methods.weights import drop_unneeded, join_parts

UNNEEDED = {**swin.UNNEEDED, **bert.UNNEEDED}
_BERT = ("embeddings.", "encoder.")
_PREFIX = "text_encoder."


def starting_weights(config: LavtConfig, source: Source) -> dict[str, Tensor]:
    """Return Swin's and BERT's published weights.

    `config.pretrained` is `<timm model>+<BERT model>`.

    Raises:
        UserError: they cannot be had or have another layout.
    """
    backbone, text_encoder = config.pretrained.split("+")
    return join_parts(
        {
            "backbone": swin.starting_weights(backbone, source),
            "text_encoder": bert.starting_weights(text_encoder, source),
        }
    )


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a flat published state dict under the names of `LavtNetwork`.

    It is LAVT's, with both dicts in one, or LAVT-one's.
    """
    return {
        f"{_PREFIX}{name}" if name.startswith(_BERT) else name: value
        for name, value in drop_unneeded(state, UNNEEDED).items()
    }


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `LavtNetwork.state_dict()` under LAVT's published names, both dicts in one.

    The entries that start with `embeddings.` and `encoder.` are `bert_model`, the
    others `model`.
    """
    everything = {**state, **swin.relative_position_indices(state)}
    return {name.removeprefix(_PREFIX): value for name, value in everything.items()}


def checkpoint(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return `LavtNetwork.state_dict()` as a checkpoint of LAVT's published code."""
    published = to_published(state)
    text_encoder = {name: value for name, value in published.items() if name.startswith(_BERT)}
    return {
        "model": {name: value for name, value in published.items() if name not in text_encoder},
        "bert_model": text_encoder,
    }
