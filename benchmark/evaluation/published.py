"""The published evaluation protocols, so that a published number can be checked as it was measured.

They differ from the suite's own (see `evaluation`) in where a mask is compared, how it gets there, what an object of several
parts is, and whether an IoU that equals a threshold counts:

    cris    (CRIS, ETRIS: test.py)   probability, bicubic with align_corners to the input size, bicubic inverse letterbox to the
                                     original size, > 0.35; IoU = I / (U + 1e-6); P@X counts IoU > X; mIoU, no oIoU
    lavt    (LAVT: test.py)          argmax at the input size against the nearest-resized mask there; a pixel that two parts of an
                                     object cover is background; IoU 0 where U = 0; P@X counts IoU >= X; mIoU and oIoU
    caris   (CARIS, MaskRIS: eval.py)   as `lavt`, but parts are merged, P@0.5, 0.7 and 0.9 alone, and U = 0 gives NaN

All take every sentence of a split; resolution and word pieces are the network's own.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from torch import Tensor

from benchmark.base.errors import UserError, choose
from benchmark.base.geometry import Geometry, prepare_mask, resize
from benchmark.data.refer import ReferDataset
from benchmark.evaluation.records import Prediction, overlap

CRIS_THRESHOLD = 0.35


@dataclasses.dataclass(frozen=True)
class PublishedProtocol:
    """One family's way of measuring.

    Attributes:
        name: of the family. geometry: of the networks it can measure.
        decide: logit map (h, w), geometry -> bool mask at the size at which masks are compared.
        truth: data set, annotation, geometry -> bool mask of that size.
        score: intersections and unions, int64 (N,) each -> the numbers that the published script prints, as fractions.
    """

    name: str
    geometry: str
    decide: Callable[[Tensor, Geometry], np.ndarray]
    truth: Callable[[ReferDataset, int, Geometry], np.ndarray]
    score: Callable[[np.ndarray, np.ndarray], dict[str, float]]


def cris_probability(logits: Tensor, geometry: Geometry) -> np.ndarray:
    """Return the probability at the original size, float32 (height, width), of a logit map (h, w), as CRIS' test.py."""
    size = (geometry.size, geometry.size)
    probability = logits.float().cpu().sigmoid()[None, None]
    at_input = F.interpolate(probability, size, mode="bicubic", align_corners=True)[0, 0].numpy()
    original = (geometry.width, geometry.height)
    return cv2.warpAffine(at_input, geometry.matrices()[1], original, flags=cv2.INTER_CUBIC, borderValue=0)


def _original(dataset: ReferDataset, ann_id: int, geometry: Geometry) -> np.ndarray:
    return dataset.mask(ann_id).astype(bool)


def _argmax(logits: Tensor, geometry: Geometry) -> np.ndarray:
    return (resize(logits.cpu(), (geometry.size, geometry.size), align_corners=True) > 0).numpy()


def _merged(dataset: ReferDataset, ann_id: int, geometry: Geometry) -> np.ndarray:
    return prepare_mask(dataset.mask(ann_id), geometry) > 0


def _covered_once(dataset: ReferDataset, ann_id: int, geometry: Geometry) -> np.ndarray:
    covers = sum(coco_mask.decode(part).astype(np.int64) for part in dataset.parts(ann_id))
    return prepare_mask((covers == 1).astype(np.uint8), geometry) > 0


def _cris_score(intersection: np.ndarray, union: np.ndarray) -> dict[str, float]:
    iou = intersection / (union + 1e-6)
    # The published thresholds are float32 values; 0.7 among them is a little less than 0.7.
    thresholds = torch.arange(0.5, 1.0, 0.1).double().numpy()
    hits = {f"p_{50 + 10 * place}": float((iou > value).mean()) for place, value in enumerate(thresholds)}
    return {"miou": float(iou.mean()), **hits}


def _lavt_score(intersection: np.ndarray, union: np.ndarray) -> dict[str, float]:
    iou = np.divide(intersection, union, out=np.zeros(len(union)), where=union > 0)
    return _overall(intersection, union) | _at_least(iou, (50, 60, 70, 80, 90))


def _caris_score(intersection: np.ndarray, union: np.ndarray) -> dict[str, float]:
    iou = np.divide(intersection, union, out=np.full(len(union), np.nan), where=union > 0)
    return _overall(intersection, union) | _at_least(iou, (50, 70, 90))


def _overall(intersection: np.ndarray, union: np.ndarray) -> dict[str, float]:
    return {"oiou": float(intersection.sum() / max(union.sum(), 1))}


def _at_least(iou: np.ndarray, thresholds: tuple[int, ...]) -> dict[str, float]:
    return {"miou": float(iou.mean())} | {f"p_{value}": float((iou >= value / 100).mean()) for value in thresholds}


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        PublishedProtocol(
            "cris",
            "letterbox",
            lambda logits, geometry: cris_probability(logits, geometry) > CRIS_THRESHOLD,
            _original,
            _cris_score,
        ),
        PublishedProtocol("lavt", "square", _argmax, _covered_once, _lavt_score),
        PublishedProtocol("caris", "square", _argmax, _merged, _caris_score),
    )
}


def get(name: str, geometry: str) -> PublishedProtocol:
    """Return the protocol called `name` for a network of `geometry`.

    Raises:
        UserError: there is none, or it measures networks that are fed otherwise.
    """
    protocol = PROTOCOLS[choose(name, PROTOCOLS, "protocol")]
    if protocol.geometry != geometry:
        fitting = " or ".join(sorted(other.name for other in PROTOCOLS.values() if other.geometry == geometry))
        raise UserError(
            f"the published protocol '{name}' measures {protocol.geometry} networks and this one is fed {geometry}"
            f" images; take --protocol {fitting}."
        )
    return protocol


class Measurement:
    """Counts of a published protocol, collected while the suite's own evaluation runs (its `on_image`)."""

    def __init__(self, protocol: PublishedProtocol, dataset: ReferDataset) -> None:
        self.protocol, self.dataset = protocol, dataset
        self.counts: list[tuple[int, int]] = []

    def add(self, prediction: Prediction) -> None:
        """Count intersection and union of every expression of an image."""
        image, truths = prediction.image, {}
        for ref, logits in zip(image.refs, prediction.logits, strict=True):
            if ref.ann_id not in truths:
                truths[ref.ann_id] = self.protocol.truth(self.dataset, ref.ann_id, image.geometry)
            self.counts.append(overlap(self.protocol.decide(logits, image.geometry), truths[ref.ann_id]))

    def numbers(self) -> dict[str, Any]:
        """Return what the published script prints, as fractions."""
        intersection, union = np.array(self.counts, np.int64).T
        return self.protocol.score(intersection, union)
