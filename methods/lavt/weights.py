"""LAVT checkpoints <-> `LavtNetwork`.

A published LAVT checkpoint holds two state dicts: `model` (`backbone.*`, `classifier.*`) and `bert_model` (`embeddings.*`,
`encoder.*`). LAVT-one holds one, `model`, with BERT under `text_encoder.*`. Ours is named as LAVT-one's. The published state
dict also stores `relative_position_index`, which follows from the window and which timm rebuilds.
"""

from collections.abc import Mapping
from typing import Any

from timm.models.swin_transformer import get_relative_position_index
from torch import Tensor

from methods.backbones import bert, swin
from methods.lavt.network import LavtNetwork

_INDEX = "relative_position_index"
_BERT = ("embeddings.", "encoder.")
_PREFIX = "text_encoder."


def from_published(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the entries under the names of `LavtNetwork`, for a checkpoint of LAVT or LAVT-one or its flat state dict."""
    state = dict(checkpoint)
    if "model" in state:
        state = {**state["model"], **state.get("bert_model", {})}
    return {
        f"{_PREFIX}{name}" if name.startswith(_BERT) else name: value
        for name, value in state.items()
        if not name.endswith(_INDEX)
    }


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of `LavtNetwork.state_dict()` under LAVT's published names, both state dicts in one.

    The entries that start with `embeddings.` and `encoder.` are `bert_model`, the others `model`.
    """
    published = {}
    for name, value in state.items():
        published[name.removeprefix(_PREFIX)] = value
        if name.endswith("relative_position_bias_table"):
            window = (round(len(value) ** 0.5) + 1) // 2
            index = get_relative_position_index(window, window, device=value.device)
            published[name.replace("relative_position_bias_table", _INDEX)] = index
    return published


def to_published_names(network: LavtNetwork) -> dict[str, str]:
    """Return own parameter name -> published name."""
    return {name: name.removeprefix(_PREFIX) for name, _ in network.named_parameters()}


def load_pretrained(network: LavtNetwork, name: str) -> None:
    """Start both encoders from published weights.

    Args:
        network: the network; its fusion and decoder are left alone.
        name: `<timm model>+<BERT model>`, the `pretrained` of a configuration.

    Raises:
        UserError: the weights cannot be read or downloaded, or have another size.
    """
    backbone, text_encoder = name.split("+")
    swin.load_pretrained(network.backbone, backbone)
    bert.load_pretrained(network.text_encoder, text_encoder)
