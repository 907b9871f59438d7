"""Adapter of TRIS' second step. Tolerances: the fixtures' README."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from methods.contract import Batch
from methods.tris_step2 import weights as weights
from methods.tris_step2.method import TrisStep2
from tests.parity import fill
from tests.parity.arrays import Tolerance
from tests.parity.tris import input_seed, pictures, sentences

INPUTS = ()


def build(config: dict[str, Any], keys: dict[str, Any], words: int) -> TrisStep2:
    """Return the published network."""
    return TrisStep2(
        TrisStep2.definition.variants["paper"], keys["backbone.token_embedding.weight"][0][0]
    )


def tolerance(quantity: str, suffixes: tuple[str, ...]) -> Tolerance:
    """Return float32 tolerances."""
    if quantity == "no_grad_keys":
        return Tolerance(0)
    if quantity == "grad_norms":
        return Tolerance(1e-3, relative=True, noisy="backbone.visual.conv1.weight")
    return Tolerance(1e-4, relative=quantity != "logits")


def arrays(
    filled: Callable[[int], TrisStep2],
    archive: dict[str, np.ndarray],
    config: dict[str, Any],
    keys: dict[str, Any],
) -> Iterator[tuple[str, Any]]:
    """Yield the logits of head 1 at input size and one training pass."""
    batch, words, size = (config[name] for name in ("batch", "words", "size"))
    seed = input_seed(config)
    images, text = pictures(batch, size, seed), sentences(batch, words, seed)
    method = filled(0)
    with torch.no_grad():
        logits = method.segment(method.encode_image(images, {}), text).logits
        full = F.interpolate(logits, (size, size), mode="bilinear", align_corners=False)
        yield "logits", full[:, :, 1::4, 2::4]
        yield "logits_sum", full.double().sum((1, 2, 3))
    target = torch.from_numpy(fill.mask(batch, size, size)).float()[:, None]
    training = Batch(images, text, target, list(range(batch)))
    terms = method.train().loss(method(training, {}, "loss"), training)
    sum(terms.values()).backward()
    values = {name.replace("head", "l"): term.item() for name, term in terms.items()}
    yield "train_losses", {**values, "total": sum(values.values())}
    gradients = {name: parameter.grad for name, parameter in method.network.named_parameters()}
    yield (
        "grad_norms",
        {name: None if value is None else float(value.norm()) for name, value in gradients.items()},
    )
    yield "no_grad_keys", {name for name, value in gradients.items() if value is None}
