"""LAVT's adapter. What is chained to the filled BERT is badly conditioned in float32,
so it is compared in float64.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from methods.backbones import swin
from methods.contract import Output, Text
from methods.lavt import weights as weights
from methods.lavt.config import LavtConfig
from methods.lavt.method import LAVT
from tests.parity import fill
from tests.parity.arrays import Tolerance

_ONE = "text_encoder."  # in front of the names of BERT in a checkpoint of LAVT-one


def build(config: dict[str, Any], keys: dict[str, Any], words: int) -> LAVT:
    """Return the network with the Swin, window and heads that the fixture names."""
    published = LavtConfig.published(
        config["swin_type"],
        config["window"],
        config["size"],
        words,
        tuple(config.get("mha", (1, 1, 1, 1))),
    )
    prefix = _ONE if _is_one(keys) else ""
    return LAVT(published, keys[f"{prefix}embeddings.word_embeddings.weight"][0][0])


def names_of(keys: dict[str, Any]) -> Any:
    """Return LAVT's names, or those of LAVT-one, which has BERT inside the network as ours has."""
    return _OneNames if _is_one(keys) else weights


def _is_one(keys: dict[str, Any]) -> bool:
    return any(name.startswith(_ONE) for name in keys)


class _OneNames:
    """The names of LAVT-one in the place of `weights`."""

    from_published = staticmethod(weights.from_published)

    @staticmethod
    def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return our state dict with the buffers that the published code stores."""
        return {**state, **swin.relative_position_indices(state)}


def tokens(batch: int, words: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return BERT ids and their mask."""
    return fill.bert_tokens(batch, words, seed)


def forward(method: LAVT, images: Tensor, ids: Tensor, attention: Tensor) -> Output:
    """Return the output for images and sentences."""
    return method.segment(images, Text(ids, attention))


def forward_words(method: LAVT, images: Tensor, words: Tensor, attention: Tensor) -> Output:
    """Return the output with word states in place of BERT's."""
    return method.output(method.network.segment(images, words, attention))


def logits(output: Output) -> Tensor:
    """Return the two-class logits at stride 4."""
    return output.extras["two_class"]


def full(output: Output, size: tuple[int, int]) -> Tensor:
    """Return the two-class logits at input size."""
    return LAVT.upsample(logits(output), size)


def tolerance(quantity: str, suffixes: tuple[str, ...]) -> Tolerance:
    """Return float32 tolerances for arrays on given words, float64 for chained ones and
    for what asks for it.
    """
    float64 = "words" not in suffixes or "float64" in suffixes
    if quantity == "train_loss":
        return Tolerance(1e-5, relative=True, float64=float64)
    if quantity in ("grad_norms", "running_stat_norms_after"):
        return Tolerance(1e-6 if float64 else 1e-3, relative=True, float64=float64)
    return Tolerance(1e-5 if float64 else 1e-4, float64=float64)
