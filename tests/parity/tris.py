"""TRIS' adapter, first step. Tolerances: the fixtures' README."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.base.geometry import Geometry, resize
from methods.backbones.clip import encode_words, resnet_maps
from methods.contract import Batch, Output, Text
from methods.tris import pseudo
from methods.tris import weights as weights
from methods.tris.method import TRIS, classification_logits, coverage
from tests.parity import fill
from tests.parity.arrays import Tolerance

INPUTS = ("aux_keys", "train_neg_word_ids")
STEP_VARIANT = "paper-head"  # whose losses the fixtures have
HEIGHT, WIDTH = 428, 640  # of the picture whose masks the fixture holds


def build(config: dict[str, Any], keys: dict[str, Any], words: int) -> TRIS:
    """Return the published network with the losses and negatives of HEAD, which the
    fixture was made with.
    """
    published = TRIS.definition.variants[STEP_VARIANT].model_copy(update={"size": config["size"]})
    return TRIS(published, keys["backbone.token_embedding.weight"][0][0])


def tokens(batch: int, words: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return CLIP ids and a mask, at which TRIS does not look."""
    ids = fill.clip_tokens(batch, words, seed)
    return ids, np.ones_like(ids)


def step_negatives(config: dict[str, Any], seed: int) -> Text:
    """Return the sentences of other referents of an optimizer step."""
    count = config["batch"] * config["options"]["negative_samples"]
    return sentences(count, config["words"], 1000 + seed)


def complete(method: TRIS, archive: dict[str, np.ndarray], config: dict[str, Any]) -> None:
    """Fill the auxiliary, which is no part of the network."""
    fill_auxiliary(method, json.loads(str(archive["aux_keys"])), config["aux_fill_seed"])


def tolerance(quantity: str, suffixes: tuple[str, ...]) -> Tolerance:
    """Return float32 tolerances; of the masks, the bits whose score is zero within
    rounding may differ.
    """
    if quantity == "masks_428x640_packed":
        return Tolerance(20)
    if quantity == "no_grad_keys":
        return Tolerance(0)
    if quantity in ("response_sum_fill3", "train_sigmoid_sum", "train_losses"):
        return Tolerance(1e-4, relative=True)
    if quantity.endswith("oiou_miou_hit"):  # in percent
        return Tolerance(1e-3)
    if quantity in ("grad_norms", "total_grad_norm"):
        return Tolerance(1e-3, relative=True, noisy="backbone.visual.conv1.weight")
    return Tolerance(2e-4 if quantity.startswith("train_") else 1e-4)


def arrays(
    filled: Callable[[int], TRIS],
    archive: dict[str, np.ndarray],
    config: dict[str, Any],
    keys: dict[str, Any],
) -> Iterator[tuple[str, Any]]:
    """Yield what the fixture holds: two pairs under two fills, masks and selected maps
    of one picture, one training pass.
    """
    batch, words, size = (config[name] for name in ("batch", "words", "size"))
    seed = input_seed(config)
    images, text = pictures(batch, size, seed), sentences(batch, words, seed)
    for fill_seed, suffix in (
        (0, ""),
        (config["mask_fill_seed"], f"_fill{config['mask_fill_seed']}"),
    ):
        method = filled(fill_seed)
        with torch.no_grad():
            alone = method.segment(method.encode_image(images, {}), text).logits
            response = method.upsample(alone).relu()
            together = method.network(images, text.ids)
            yield f"score_low{suffix}", alone
            yield f"response{suffix}", response[:, :, 1::4, 2::4]
            yield f"response_sum{suffix}", response.double().sum((1, 2, 3))
            yield (
                f"score_low_joint{suffix}",
                together.diagonal(dim1=0, dim2=1).permute(2, 0, 1)[:, None],
            )
            if fill_seed == 0:
                yield "text_hidden", encode_words(method.network.backbone, text.ids)[1]
                yield (
                    "c4_mean",
                    resnet_maps(method.network.backbone.visual, images)[-1].mean((2, 3)),
                )
    fill_auxiliary(method, json.loads(str(archive["aux_keys"])), config["aux_fill_seed"])
    yield from _masks(method, pictures(1, size, seed), text)
    yield from _training_pass(filled(0), config, archive["train_neg_word_ids"])


def input_seed(config: dict[str, Any]) -> int:
    """Return the seed of pictures and sentences."""
    return config["seed_alt" if config["alternative"] else "seed"]


def pictures(batch: int, size: int, seed: int) -> Tensor:
    """Return images (B, 3, S, S)."""
    return torch.from_numpy(fill.image(batch, size, size, seed))


def sentences(batch: int, words: int, seed: int) -> Text:
    """Return CLIP ids as the method takes them."""
    return Text(*map(torch.from_numpy, tokens(batch, words, seed)))


def fill_auxiliary(method: TRIS, keys: dict[str, Any], seed: int) -> None:
    """Fill the auxiliary under its own published names."""
    values = {name: fill.fill(name, tuple(shape), seed) for name, (shape, _) in keys.items()}
    method.auxiliary.load_state_dict(
        {name: torch.from_numpy(np.asarray(value)) for name, value in values.items()}
    )


@torch.no_grad()
def _masks(method: TRIS, image: Tensor, text: Text) -> Iterator[tuple[str, Any]]:
    truth = fill.mask(1, HEIGHT, WIDTH)[0].astype(bool)
    features = method.encode_image(image, {}).expand(len(text), -1, -1, -1)
    logits = method.segment(features, text).logits
    masks = [
        method.mask(logit[0], Geometry(HEIGHT, WIDTH, image.shape[-1], "square"))
        for logit in logits
    ]
    responses = method.upsample(logits).relu()
    maps = torch.stack(
        [resize(response[0], (HEIGHT, WIDTH), align_corners=True) for response in responses]
    )
    similarities = pseudo.response_similarities(method.auxiliary, image, responses, text.ids)
    kept = pseudo.select_response(maps, similarities).numpy()
    yield "masks_428x640_packed", np.packbits(masks)
    yield "validate_oiou_miou_hit", _percentages(masks, maps.numpy(), truth)
    yield "prms_scores", similarities
    yield "prms_oiou_miou_hit", _percentages([kept > 1e-9], kept[None], truth)


def _percentages(masks: list[np.ndarray], maps: np.ndarray, truth: np.ndarray) -> list[float]:
    """Return oIoU, mIoU and how often a map's maximum lies in the ground truth's box,
    which is the mask here, in percent.
    """
    both, either = (
        np.array([change(mask, truth).sum() for mask in masks])
        for change in (np.logical_and, np.logical_or)
    )
    hits = [truth[np.unravel_index(found.argmax(), found.shape)] for found in maps]
    return [100 * both.sum() / either.sum(), 100 * (both / either).mean(), 100 * np.mean(hits)]


def _training_pass(
    method: TRIS, config: dict[str, Any], negative_ids: np.ndarray
) -> Iterator[tuple[str, Any]]:
    count, words, seed = config["train_batch"], config["words"], input_seed(config)
    ids = torch.from_numpy(negative_ids).long().flatten(0, 1)
    batch = Batch(
        pictures(count, config["size"], seed),
        sentences(count, words, seed),
        None,
        list(range(count)),
        Text(ids, torch.ones_like(ids)),
    )
    output: Output = method.train()(batch, {}, "loss")
    terms = method.loss(output, batch)
    sum(terms.values()).backward()
    with torch.no_grad():
        scores, own = output.extras["scores"], output.logits
        yield "train_cls_out", classification_logits(scores)
        yield "train_cls_fg", coverage(scores).diagonal()
        yield "train_score_low", own
        yield "train_sigmoid_sum", method.upsample(own).sigmoid().double().sum((1, 2, 3))
        yield "train_fg_similarity", output.extras["foreground"][:, 0]
        yield "train_neg_similarity", output.extras["negatives"]
    values = {name: term.item() for name, term in terms.items()}
    yield (
        "train_losses",
        {
            "fg": values["foreground"] / method.config.foreground_weight,
            "cls": values["classification"] / method.config.classification_weight,
            "neg": values["negative"] / method.config.negative_weight,
            "total": sum(values.values()),
        },
    )
    gradients = {name: parameter.grad for name, parameter in method.network.named_parameters()}
    yield (
        "grad_norms",
        {name: None if value is None else float(value.norm()) for name, value in gradients.items()},
    )
    yield "no_grad_keys", {name for name, value in gradients.items() if value is None}
    found = [value for value in gradients.values() if value is not None]
    yield "total_grad_norm", float(torch.nn.utils.get_total_norm(found))
    yield "bn1_running_mean_after", method.network.backbone.visual.bn1.running_mean
