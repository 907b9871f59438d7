"""Network + split -> records: one row per referring expression, its mask decided at the original image size."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader

from benchmark.data.geometry import normalise
from benchmark.data.refer import ReferDataset
from benchmark.data.samples import EvaluationImage, EvaluationImages, Transform
from benchmark.data.vocabulary import Tokeniser
from benchmark.draws import generator
from benchmark.metrics import COLUMNS, COUNTS, IDS, SWAPPED
from methods.protocol import Method


@dataclasses.dataclass
class Prediction:
    """What a method says of one image's expressions.

    Attributes:
        image: the image, its expressions and ground truth. masks: one bool (height, width) per expression.
        logits: what the masks were decided from, float32 (h, w) at the network's own stride, on the CPU.
    """

    image: EvaluationImage
    masks: list[np.ndarray]
    logits: list[Tensor]


def overlap(predicted: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Return intersection and union in pixels of two masks (height, width)."""
    truth = truth.astype(bool)
    both = int(np.count_nonzero(predicted & truth))
    return both, int(np.count_nonzero(predicted)) + int(np.count_nonzero(truth)) - both


def predict(
    method: Method,
    images: list[EvaluationImage],
    tokeniser: Tokeniser,
    device: torch.device,
    draw_seed: int = 0,
    expressions_at_once: int = 64,
) -> list[Prediction]:
    """Return the masks of all expressions of some images; every image is encoded once, whatever it has of sentences.

    The method's own noise is keyed by `draw_seed` and the image: it is the same in whatever company the image comes.
    """
    needs = method.needs
    drawn = method.draws([generator("evaluation draws", draw_seed, image.image_id) for image in images])
    draws = {name: value.to(device) for name, value in drawn.items()}
    pixels = torch.stack([image.image for image in images]).to(device)
    features = method.encode_image(normalise(pixels, needs.mean, needs.std), draws)
    owner = [number for number, image in enumerate(images) for _ in image.sentences]
    sentences = [getattr(sentence, needs.text_field) for image in images for sentence in image.sentences]
    logits: list[Tensor] = []
    for start in range(0, len(sentences), expressions_at_once):
        index = torch.tensor(owner[start : start + expressions_at_once], device=device)
        text = tokeniser.encode(sentences[start : start + expressions_at_once], needs.words, needs.keep_end).to(device)
        rows = tree_map(lambda feature, index=index: feature[index], features)
        logits += list(method.segment(rows, text).logits[:, 0].float().cpu())
    predictions = [Prediction(image, [], []) for image in images]
    for number, logit in zip(owner, logits, strict=True):
        predictions[number].masks.append(method.mask(logit, images[number].geometry))
        predictions[number].logits.append(logit)
    return predictions


def records_of(prediction: Prediction) -> list[dict[str, Any]]:
    """Return one record per expression of an image.

    The swapped counts compare the ground truth of an expression with what the network says to a sentence of *another* object
    of the image (a keyed draw): over rows that have one, mIoU minus swapped mIoU is the grounding gap, exactly 0 for a network
    that ignores text. They are missing where the image has no second object.
    """
    image, rows = prediction.image, []
    for number, (ref, sentence) in enumerate(zip(image.refs, image.sentences, strict=True)):
        truth = image.masks[ref.ann_id]
        others = [other for other, candidate in enumerate(image.refs) if candidate.ann_id != ref.ann_id]
        swapped = (None, None)
        if others:
            other = others[generator("swap", image.image_id, sentence.sent_id).integers(len(others))]
            swapped = overlap(prediction.masks[other], truth)
        rows.append(
            {
                "image_id": image.image_id,
                "ref_id": ref.ref_id,
                "ann_id": ref.ann_id,
                "sent_id": sentence.sent_id,
                "sentence": sentence.sent,
                **dict(zip((*COUNTS, *SWAPPED), (*overlap(prediction.masks[number], truth), *swapped), strict=True)),
            }
        )
    return rows


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return records as a table in the order of their sentence ids."""
    # Named columns: a process whose share of a small split is empty has a table, too.
    records = pd.DataFrame(rows, columns=list(COLUMNS))
    types = dict.fromkeys((*IDS, *COUNTS), "int64") | dict.fromkeys(SWAPPED, "Int64")
    return records.astype(types).sort_values("sent_id", ignore_index=True)


def _batches(
    images: EvaluationImages, numbers: list[int], at_once: int, workers: int
) -> Iterator[list[EvaluationImage]]:
    """Yield the images in groups, decoded ahead by `workers` processes."""
    groups = [numbers[start : start + at_once] for start in range(0, len(numbers), at_once)]
    yield from DataLoader(images, batch_sampler=groups, num_workers=workers, collate_fn=list)


@torch.no_grad()
def evaluate(
    method: Method,
    dataset: ReferDataset,
    split: str,
    tokeniser: Tokeniser,
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
        draw_seed: of the noise of a method that has some (SaG): another seed, another draw.
        share: this process' part of the images, (rank, world); the caller gathers the parts.
        on_image: called with every prediction (progress, overlays).
        transform: of every image at its original size (a corruption); none for the clean split.
    """
    training = method.training
    method.eval()
    images = EvaluationImages(dataset, split, method.needs, transform)
    numbers = list(range(len(images)))[share[0] :: share[1]]
    rows: list[dict[str, Any]] = []
    for group in _batches(images, numbers, images_at_once, workers):
        for prediction in predict(method, group, tokeniser, device, draw_seed):
            rows += records_of(prediction)
            if on_image:
                on_image(prediction)
    method.train(training)
    return frame(rows)


def canonical(values: dict[str, float]) -> dict[str, float]:
    """Return numbers as JSON will read them back (missing ones as None)."""
    return json.loads(json.dumps({name: None if value != value else value for name, value in values.items()}))
