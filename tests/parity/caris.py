"""CARIS' adapter, also for MaskRIS' published code, whose network is CARIS'.
Tolerances: the fixtures' README.
"""

from typing import Any

import numpy as np
from torch import Tensor

from methods.caris import weights as weights
from methods.caris.config import CarisConfig
from methods.caris.method import CARIS
from methods.contract import Output, Text
from tests.parity import fill
from tests.parity.arrays import Tolerance

# In the state dict of MaskRIS' published code, where nothing reads it. Our network does
# without.
UNREAD = frozenset({"backbone.vis_encoder.mask_token"})


def build(config: dict[str, Any], keys: dict[str, Any], words: int) -> CARIS:
    """Return the network with the Swin and window that the fixture names."""
    published = CarisConfig.published(config["swin_type"], config["window"], config["size"], words)
    return CARIS(published, keys["backbone.lang_encoder.embeddings.word_embeddings.weight"][0][0])


def tokens(batch: int, words: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return BERT ids and their mask."""
    return fill.bert_tokens(batch, words, seed)


def forward(method: CARIS, images: Tensor, ids: Tensor, attention: Tensor) -> Output:
    """Return the output for images and sentences."""
    return method.segment(method.encode_image(images, {}), Text(ids, attention))


def forward_words(method: CARIS, images: Tensor, words: Tensor, attention: Tensor) -> Output:
    """Return the output with word states in place of BERT's."""
    return method.output(method.network.decode(method.encode_image(images, {}), words, attention))


def logits(output: Output) -> Tensor:
    """Return the two-class logits at stride 4."""
    return output.extras["two_class"]


def full(output: Output, size: tuple[int, int]) -> Tensor:
    """Return the two-class logits at input size."""
    return CARIS.upsample(logits(output), size)


def tolerance(quantity: str, suffixes: tuple[str, ...]) -> Tolerance:
    """Return float32 tolerances; the second logits of MaskRIS' step, which hang on the
    first pass, are compared in float64.
    """
    float64 = quantity == "maskris_second_logits" or "float64" in suffixes
    if quantity in ("train_loss", "maskris_losses"):
        return Tolerance(1e-5, relative=True, float64=float64)
    if quantity in ("grad_norms", "maskris_grad_norms", "maskris_total_grad_norm"):
        return Tolerance(1e-6 if float64 else 1e-3, relative=True, float64=float64)
    return Tolerance(1e-5 if float64 else 1e-4, float64=float64)
