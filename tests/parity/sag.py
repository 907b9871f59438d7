"""SaG's adapter. Tolerances: the fixtures' README, closer where a fixture's numbers are small."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.base.geometry import Geometry
from benchmark.evaluation.records import overlap
from methods.backbones.positions import resize_positions, sine_position
from methods.contract import Batch, Text
from methods.sag import weights as weights
from methods.sag.config import SagConfig
from methods.sag.method import SaG
from tests.parity import fill
from tests.parity.arrays import Tolerance

INPUTS = ("slot_noise", "train_slot_noise")
HEIGHT, WIDTH = 428, 640  # of the pictures whose masks the fixture holds


def build(config: dict[str, Any], keys: dict[str, Any], words: int) -> SaG:
    """Return the published network."""
    vocabulary = keys["encoders.txt_enc.bert.embeddings.word_embeddings.weight"][0][0]
    return SaG(SagConfig.published(config["size"], words), vocabulary)


def tokens(batch: int, words: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return BERT ids and their mask."""
    return fill.bert_tokens(batch, words, seed)


def step_noise(config: dict[str, Any], seed: int) -> dict[str, Tensor]:
    """Return the slots' noise of an optimizer step."""
    rng = np.random.Generator(np.random.PCG64(4_000_003 + seed))
    slots = SagConfig.published().slots, SagConfig.published().width
    noise = rng.standard_normal((config["batch"], *slots), dtype=np.float32)
    return {"slots": _tensor(noise).double()}


def tolerance(quantity: str, suffixes: tuple[str, ...]) -> Tolerance:
    """Return float32 tolerances; of packed masks, how many bits may differ."""
    if quantity == "no_grad_keys":
        return Tolerance(0)
    if quantity.startswith("mask") or quantity == "intersection_union_area":
        return Tolerance(50)
    if quantity in ("grad_norms", "total_grad_norm"):
        return Tolerance(1e-3, relative=True)
    if quantity == "train_losses":
        return Tolerance(1e-4, relative=True)
    if quantity == "score_normalised":
        return Tolerance(1e-3)
    if quantity.startswith("slot_") or quantity in ("score", "pos_embed_resized"):
        return Tolerance(1e-6)
    return Tolerance(1e-4)


def arrays(
    filled: Callable[[int], SaG],
    archive: dict[str, np.ndarray],
    config: dict[str, Any],
    keys: dict[str, Any],
) -> Iterator[tuple[str, Any]]:
    """Yield what the fixture holds: two pairs in evaluation, their masks, and one
    training pass of three pairs.
    """
    method = filled(0)
    with torch.no_grad():
        yield from _encoders(method, _batch(config["batch"], config))
        yield from _evaluation(
            method, _batch(config["batch"], config), {"slots": _tensor(archive["slot_noise"])}
        )
    batch = _batch(config["train_batch"], config)
    yield from _training_pass(
        method.train(), batch, {"slots": _tensor(archive["train_slot_noise"])}, keys
    )


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)


def _batch(count: int, config: dict[str, Any]) -> Batch:
    """Return the fixture's inputs. The first ones have seed 0, since the seed in its configuration
    is that of the published training.
    """
    seed = config["seed_alt"] if config["alternative"] else 0
    ids, attention = map(torch.from_numpy, tokens(count, config["words"], seed))
    images = _tensor(fill.image(count, config["size"], config["size"], seed))
    return Batch(images, Text(ids, attention), None, list(range(count)))


def _encoders(method: SaG, batch: Batch) -> Iterator[tuple[str, Any]]:
    encoder = method.network.encoders["img_enc"]
    backbone = encoder.img_backbone
    tokens = backbone.forward_features(batch.images)
    side = batch.images.shape[-1] // method.config.vit.patch
    yield "vit_cls", tokens[:, 0]
    yield "vit_patches_strided", tokens[:, 1::16, ::8]
    yield (
        "pos_embed_resized",
        resize_positions(backbone.pos_embed, (side, side), "bilinear")[0, :, ::32],
    )
    yield (
        "position_sine",
        sine_position(side, side, method.config.width, batch.images.device)[:, ::32],
    )
    yield (
        "bert_cls_projected",
        method.network.encode_text(batch.text.ids, batch.text.attention)[:, None],
    )


def _evaluation(method: SaG, batch: Batch, draws: dict[str, Tensor]) -> Iterator[tuple[str, Any]]:
    network, iterations = method.network, []
    (block,) = network.encoders["img_enc"].set_pred_module.agg["agg_blocks"]
    hook = block.register_forward_hook(lambda module, inputs, output: iterations.append(output[1]))
    features = method.encode_image(batch.images, draws)
    hook.remove()
    sentences = network.encode_text(batch.text.ids, batch.text.attention)
    gathered, shares = network.cma(sentences[:, None], features.slots)
    score = method.segment(features, batch.text).logits[:, 0]
    yield "slots", features.slots
    yield "slot_maps", features.maps.flatten(2)
    yield "slot_maps_first", iterations[0][:, :6]
    yield "slot_weights", shares[:, 0]
    yield "cross_modal", gathered[:, 0]
    yield "score", score
    low, high = score.amin((1, 2), keepdim=True), score.amax((1, 2), keepdim=True)
    yield "score_normalised", (score - low) / (high - low + 1e-9)
    masks = [
        method.mask(one, Geometry(HEIGHT, WIDTH, method.config.size, "square")) for one in score
    ]
    for number, mask in enumerate(masks):
        yield f"mask{number}_{HEIGHT}x{WIDTH}_packed", np.packbits(mask)
    truths = fill.mask(len(masks), HEIGHT, WIDTH)
    counts = [
        (*overlap(mask, truth), mask.sum()) for mask, truth in zip(masks, truths, strict=True)
    ]
    yield "intersection_union_area", np.array(counts)


def _training_pass(
    method: SaG, batch: Batch, draws: dict[str, Tensor], keys: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    output = method(batch, draws, "loss")
    terms = method.loss(output, batch)
    total = sum(terms.values())
    total.backward()
    extras = {name: value.detach() for name, value in output.extras.items()}
    yield "train_similarity", torch.einsum("nc,inc->ni", extras["sentences"], extras["gathered"])
    yield "train_cross_modal_strided", extras["gathered"][:, :, ::16]
    yield "train_text", extras["sentences"]
    yield "train_recon_strided", extras["reconstruction"][:, ::16, ::8]
    yield "train_feat_strided", extras["tokens"][:, ::16, ::8]
    losses = {"cm": terms["contrastive"], "recon": terms["reconstruction"], "total": total}
    yield "train_losses", {name: float(value.detach()) for name, value in losses.items()}
    gradients = {name: parameter.grad for name, parameter in method.network.named_parameters()}
    norms = {name: float(value.norm()) for name, value in gradients.items() if value is not None}
    yield "grad_norms", norms
    found = [value.double() for value in gradients.values() if value is not None]
    yield "total_grad_norm", float(nn.utils.get_total_norm(found))
    # Ours does without the layers that get no gradient; copies of the block stand for it.
    copies = {name for name in keys if "agg_blocks." in name and "agg_blocks.0." not in name}
    yield "no_grad_keys", keys.keys() - norms.keys() - copies
