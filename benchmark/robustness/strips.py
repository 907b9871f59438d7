"""A strip shows one image at every severity of a corruption, with several networks' masks.

All masks are of one expression. Networks run here, and the result is plain data, which a report
draws.
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
    from benchmark.runs.opened import Opened

LEVELS = (0, *corruptions.SEVERITIES)  # 0 is the clean image


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a strip is to show.

    Attributes:
        name: of its file.
        title: stands above it.
        keys: what the strip calls a network -> key of the network's run.
        split: name of the split of the expression.
        corruption: name of the corruption.
        sent_id: of the expression.
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
        wanted: what it was to show.
        sentence: the expression.
        images: severity, with 0 for clean -> RGB, uint8 (height, width, 3).
        truth: uint8 (height, width) in {0, 1}.
        masks: network -> severity -> bool (height, width).
        ious: network -> severity -> IoU, a fraction.
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
        wanted: what each is to show.
        runs: folder of the run directories.
        opened: gives a run's data, as in `run.load_all`.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        UserError: a run is not finished, has no weights, or its data are not where they were.
    """
    # Imported here because it needs torch, and a report that only chooses strips does not.
    from benchmark.robustness.run import load_all

    strips = []
    for each in wanted:
        loaded = load_all([RunDir(runs / key) for key in each.keys.values()], opened, device)
        networks = {label: loaded[key] for label, key in each.keys.items()}
        strips.append(strip(each, networks))
    return strips


def strip(wanted: Wanted, networks: Mapping[str, Loaded]) -> Strip:
    """Return one strip.

    Args:
        wanted: what it is to show.
        networks: what the strip calls a network -> the network. All are of one data set.
    """
    import torch

    dataset = next(iter(networks.values())).dataset
    ref = _ref(dataset, wanted)
    original = dataset.image(ref.image_id)
    truth = dataset.target(ref)
    images = {0: original}
    for severity in corruptions.SEVERITIES:
        images[severity] = corruptions.corrupt(original, wanted.corruption, severity, ref.image_id)
    with torch.no_grad():
        masks = {
            label: {severity: _mask(network, ref, pixels) for severity, pixels in images.items()}
            for label, network in networks.items()
        }
    ious = {
        label: {severity: _iou(mask, truth) for severity, mask in by_severity.items()}
        for label, by_severity in masks.items()
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
