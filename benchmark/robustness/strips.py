"""Strips: one image at every severity of a corruption, with what several networks make of one expression.

Networks run here, and what comes out is plain data, which a report draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.data.refer import Ref, ReferDataset
from benchmark.evaluation.masks import overlap
from benchmark.robustness import corruptions
from benchmark.runs.rundir import RunDir

if TYPE_CHECKING:
    from benchmark.evaluation.inference import Loaded
    from benchmark.runs.resolve import Opened

LEVELS = (0, *corruptions.SEVERITIES)  # 0 is the clean image


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a strip is to show.

    Attributes:
        name: of its file. title: stands above it.
        keys: what the strip calls a network -> key of the run that it is of.
        split, corruption: of the images. sent_id: of the expression.
    """

    name: str
    title: str
    keys: Mapping[str, str]
    split: str
    corruption: str
    sent_id: int


@dataclasses.dataclass(frozen=True)
class Strip:
    """What a strip shows.

    Attributes:
        wanted: what it is. sentence: the expression.
        images: severity (0: clean) -> RGB uint8 (height, width, 3).
        truth: uint8 (height, width) in {0, 1}.
        masks: network -> severity -> bool (height, width). ious: network -> severity -> IoU.
    """

    wanted: Wanted
    sentence: str
    images: Mapping[int, np.ndarray]
    truth: np.ndarray
    masks: Mapping[str, Mapping[int, np.ndarray]]
    ious: Mapping[str, Mapping[int, float]]


def compute(
    wanted: Sequence[Wanted], runs: Path, opened: Callable[[RunDir], Opened], device: str
) -> list[Strip]:
    """Return what the strips show.

    Args:
        runs: folder of the run directories. opened: gives a run's data, as in `run.load_all`.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        UserError: a run is not finished, has no weights, or its data are not where they were.
    """
    from benchmark.robustness.run import (
        load_all,
    )  # torch: not for those who only name what they want

    strips = []
    for each in wanted:
        loaded = load_all([RunDir(runs / key) for key in each.keys.values()], opened, device)
        networks = {label: loaded[key] for label, key in each.keys.items()}
        strips.append(strip(each, networks))
    return strips


def strip(wanted: Wanted, networks: Mapping[str, Loaded]) -> Strip:
    """Return one strip of networks of one data set, by what the strip calls them."""
    import torch

    dataset = next(iter(networks.values())).dataset
    ref = _ref(dataset, wanted)
    original, truth = dataset.image(ref.image_id), dataset.target(ref)
    images = {
        level: corruptions.corrupt(original, wanted.corruption, level, ref.image_id)
        if level
        else original
        for level in LEVELS
    }
    with torch.no_grad():
        masks = {
            label: {level: _mask(network, ref, pixels) for level, pixels in images.items()}
            for label, network in networks.items()
        }
    ious = {
        label: {level: _iou(mask, truth) for level, mask in by_level.items()}
        for label, by_level in masks.items()
    }
    return Strip(wanted, ref.sentences[0].sent, images, truth, masks, ious)


def _ref(dataset: ReferDataset, wanted: Wanted) -> Ref:
    """Return the ref of the wanted expression, with that expression alone."""
    return next(
        dataclasses.replace(ref, sentences=(sentence,))
        for ref in dataset.refs_of(wanted.split)
        for sentence in ref.sentences
        if sentence.sent_id == wanted.sent_id
    )


def _mask(network: Loaded, ref: Ref, pixels: np.ndarray) -> np.ndarray:
    from benchmark.data.images import evaluation_image
    from benchmark.evaluation.predict import predict

    item = evaluation_image(network.dataset, [ref], pixels, network.method.needs)
    (prediction,) = predict(network.method, [item], network.tokenizer, network.device)
    return prediction.masks[0]


def _iou(mask: np.ndarray, truth: np.ndarray) -> float:
    intersection, union = overlap(mask, truth)
    return intersection / union if union else 0.0
