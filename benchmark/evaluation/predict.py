"""From a network and a split to records, with every mask decided at the original image size."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from benchmark.base.geometry import normalize
from benchmark.base.rng import generator
from benchmark.data.images import EvaluationImage, EvaluationImages, Transform
from benchmark.data.loading import loader
from benchmark.data.refer import ReferDataset
from benchmark.data.tokenizers import Tokenizer
from benchmark.evaluation.records import Prediction, frame, records_of
from methods.contract import Method
from methods.precision import computed_in

EXPRESSIONS_AT_ONCE = 64  # expressions that pass a network together


def predict(
    method: Method,
    images: list[EvaluationImage],
    tokenizer: Tokenizer,
    device: torch.device,
    draw_seed: int = 0,
    expressions_at_once: int = EXPRESSIONS_AT_ONCE,
) -> list[Prediction]:
    """Return the masks of all expressions of some images, one prediction per image.

    Every image is encoded once, however many expressions it has. The network computes in its own
    precision, as in training, so the epoch that was chosen is the network that is used.

    Args:
        method: the network, in evaluation mode.
        images: prepared for this method.
        tokenizer: of the method's sentences.
        device: of the network.
        draw_seed: keys the method's own noise together with the image, so the noise does not depend
            on the other images of the call.
        expressions_at_once: number of expressions that pass the network together.
    """
    return _decide(method, _ask(method, images, tokenizer, device, draw_seed, expressions_at_once))


@dataclasses.dataclass
class _Asked:
    """What a network was asked, and its answer, which may still be on its way from a GPU.

    Attributes:
        images: in their order.
        owner: number of the image of each expression.
        logits: (n, h, w) float32 of the expressions that passed the network together, on the CPU.
        arrived: is waited for before `logits` are read. None where they are there.
    """

    images: list[EvaluationImage]
    owner: list[int]
    logits: list[Tensor]
    arrived: torch.cuda.Event | None


def _ask(
    method: Method,
    images: list[EvaluationImage],
    tokenizer: Tokenizer,
    device: torch.device,
    draw_seed: int,
    expressions_at_once: int,
) -> _Asked:
    """Ask a network, with the arguments of `predict`, and do not wait for a GPU's answer."""
    needs = method.needs
    noise = method.draws(
        [generator("evaluation draws", draw_seed, image.image_id) for image in images]
    )
    draws = {name: value.to(device, non_blocking=True) for name, value in noise.items()}
    pixels = torch.stack([image.image for image in images]).to(device, non_blocking=True)
    with computed_in(method.precision, device):
        features = method.encode_image(normalize(pixels, needs.mean, needs.std), draws)
    owner = [number for number, image in enumerate(images) for _ in image.sentences]
    sentences = [
        getattr(sentence, needs.text_field) for image in images for sentence in image.sentences
    ]
    logits: list[Tensor] = []
    for start in range(0, len(sentences), expressions_at_once):
        part = slice(start, start + expressions_at_once)
        text = tokenizer.encode(sentences[part], needs.max_length, needs.keep_end).to(device)
        index = torch.tensor(owner[part]).to(device, non_blocking=True)
        rows = tree_map(lambda feature, index=index: feature[index], features)
        with computed_in(method.precision, device):
            output = method.segment(rows, text)
        logits.append(output.logits[:, 0].float().to("cpu", non_blocking=True))
    arrived = None
    if device.type == "cuda":
        arrived = torch.cuda.Event()
        arrived.record()
    return _Asked(images, owner, logits, arrived)


def _decide(method: Method, asked: _Asked) -> list[Prediction]:
    """Return the predictions of images that a network was asked about."""
    if asked.arrived is not None:
        asked.arrived.synchronize()
    predictions = [Prediction(image, [], []) for image in asked.images]
    rows = (row for part in asked.logits for row in part)
    for number, logit in zip(asked.owner, rows, strict=True):
        predictions[number].masks.append(method.mask(logit, asked.images[number].geometry))
        predictions[number].logits.append(logit)
    return predictions


@torch.no_grad()
def evaluate(
    method: Method,
    dataset: ReferDataset,
    split: str,
    tokenizer: Tokenizer,
    device: torch.device,
    *,
    workers: int = 0,
    images_at_once: int = 8,
    draw_seed: int = 0,
    share: tuple[int, int] = (0, 1),
    on_image: Callable[[Prediction], None] | None = None,
    transform: Transform | None = None,
) -> pd.DataFrame:
    """Return the records of a split.

    Args:
        method: the network.
        dataset: any data set, not only the one that the method was trained on.
        split: name of the split.
        tokenizer: of the method's sentences.
        device: of the network.
        workers: processes that decode images ahead.
        images_at_once: images that are encoded together.
        draw_seed: of the noise of a method that has some (SaG). Another seed gives other noise.
        share: this process' part of the groups of images, as (rank, number of processes). The
            caller gathers the parts.
        on_image: is called with every prediction, for progress or overlays.
        transform: is applied to every image at its original size, like a corruption. None leaves
            them as they are.

    Raises:
        UserError: the data set has no such split, or an image is missing or damaged.
    """
    images = EvaluationImages(dataset, split, method.needs, transform)
    numbers = range(len(images))
    # Which images go together can decide the last bits of a logit, so whole groups are dealt. The
    # records are the same then, however many processes there are.
    groups = [[*numbers[start : start + images_at_once]] for start in numbers[::images_at_once]][
        share[0] :: share[1]
    ]
    rows: list[dict[str, Any]] = []
    training = method.training
    method.eval()

    def take(asked: _Asked) -> None:
        for prediction in _decide(method, asked):
            rows.extend(records_of(prediction))
            if on_image:
                on_image(prediction)

    # A GPU works on a group of images while the masks of the one before are decided here.
    before: _Asked | None = None
    for group in loader(images, groups, workers, collate=list):
        now = _ask(method, group, tokenizer, device, draw_seed, EXPRESSIONS_AT_ONCE)
        if before:
            take(before)
        before = now
    if before:
        take(before)
    method.train(training)
    return frame(rows)
