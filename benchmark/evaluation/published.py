"""The published ways of measuring, so that a published number can be checked as it was measured.

They differ from the suite's own (see `predict` and `metrics`) in where a mask is compared, how it
gets there, what an object of several parts is, and whether an IoU that equals a threshold counts:

    cris    CRIS and ETRIS (test.py). The probability is resized to the input size (bicubic, with
            align_corners), brought to the original size by the inverse letterbox (bicubic), and cut
            at > 0.35. IoU = I / (U + 1e-6). P@X counts IoU > X. It has mIoU and no oIoU.
    lavt    LAVT (test.py). The argmax at the input size is compared with the nearest-resized mask
            there. A pixel that two parts of an object cover is background. IoU is 0 where U = 0.
            P@X counts IoU >= X. It has mIoU and oIoU.
    caris   CARIS and MaskRIS (eval.py). As `lavt`, but parts are merged, U = 0 gives NaN, and there
            are P@0.5, P@0.7 and P@0.9 alone.

All take every sentence of a split. Resolution and word pieces are the network's own.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from torch import Tensor

from benchmark.base.errors import UserError, choose
from benchmark.base.geometry import Geometry, prepare_mask, resize
from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref
from benchmark.evaluation.masks import overlap
from benchmark.evaluation.metrics import Metric
from benchmark.evaluation.published_scores import COLUMNS, SCORES, numbers
from benchmark.evaluation.records import Prediction

CRIS_THRESHOLD = 0.35


@dataclasses.dataclass(frozen=True)
class PublishedProtocol:
    """How one family of published code measures.

    Attributes:
        name: of the family.
        geometry: of the networks that it can measure.
        decide: returns the bool mask of a logit map (h, w) and a geometry, at the size at which
            masks are compared.
        truth: returns the bool mask of a data set, a ref and a geometry, at the same size.
    """

    name: str
    geometry: str
    decide: Callable[[Tensor, Geometry], np.ndarray]
    truth: Callable[[ReferDataset, Ref, Geometry], np.ndarray]

    @property
    def scores(self) -> tuple[Metric, ...]:
        """The numbers that the published script prints."""
        return SCORES[self.name]


# --- CRIS ---------------------------------------------------------------------------------------


def cris_probability(logits: Tensor, geometry: Geometry) -> np.ndarray:
    """Return the probability at the original size, as CRIS' test.py computes it.

    Args:
        logits: (h, w).

    Returns:
        float32 (height, width).
    """
    size = (geometry.size, geometry.size)
    probability = logits.float().cpu().sigmoid()[None, None]
    at_input = F.interpolate(probability, size, mode="bicubic", align_corners=True)[0, 0].numpy()
    original = (geometry.width, geometry.height)
    inverse = geometry.matrices()[1]
    return cv2.warpAffine(at_input, inverse, original, flags=cv2.INTER_CUBIC, borderValue=0)


def _cris_decision(logits: Tensor, geometry: Geometry) -> np.ndarray:
    return cris_probability(logits, geometry) > CRIS_THRESHOLD


def _original(dataset: ReferDataset, ref: Ref, geometry: Geometry) -> np.ndarray:
    return dataset.target(ref).astype(bool)


# --- LAVT and CARIS -------------------------------------------------------------------------------


def _argmax(logits: Tensor, geometry: Geometry) -> np.ndarray:
    # The foreground logit is z1 - z0, so the argmax of the two classes is its sign.
    size = (geometry.size, geometry.size)
    return (resize(logits.cpu(), size, align_corners=True) > 0).numpy()


def _covered_once(dataset: ReferDataset, ref: Ref, geometry: Geometry) -> np.ndarray:
    covers = np.zeros_like(dataset.target(ref), np.int64)
    for ann_id in ref.ann_ids:
        for part in dataset.parts(ann_id):
            covers += coco_mask.decode(part)
    return prepare_mask((covers == 1).astype(np.uint8), geometry) > 0


def _merged(dataset: ReferDataset, ref: Ref, geometry: Geometry) -> np.ndarray:
    return prepare_mask(dataset.target(ref), geometry) > 0


# --- by name --------------------------------------------------------------------------------------

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        PublishedProtocol("cris", "letterbox", _cris_decision, _original),
        PublishedProtocol("lavt", "square", _argmax, _covered_once),
        PublishedProtocol("caris", "square", _argmax, _merged),
    )
}


def get(name: str, geometry: str) -> PublishedProtocol:
    """Return the published protocol called `name` for a network of `geometry`.

    Raises:
        UserError: there is none, or it measures networks whose images are prepared in another way.
    """
    protocol = PROTOCOLS[choose(name, PROTOCOLS, "published protocol")]
    if protocol.geometry != geometry:
        fitting = sorted(its.name for its in PROTOCOLS.values() if its.geometry == geometry)
        raise UserError(
            f"the published protocol '{name}' measures {protocol.geometry} networks and this one is"
            f" fed {geometry} images; take --protocol {' or '.join(fitting)}."
        )
    return protocol


class Measurement:
    """The counts of a published protocol, collected during the suite's own evaluation.

    Its `add` is an `on_image` of `predict.evaluate`.
    """

    def __init__(self, protocol: PublishedProtocol, dataset: ReferDataset) -> None:
        self.protocol, self.dataset = protocol, dataset
        self.counts: list[tuple[int, int]] = []  # intersection and union per expression
        self._ids: list[tuple[int, int]] = []  # its image and sentence

    def add(self, prediction: Prediction) -> None:
        """Count intersection and union of every expression of an image."""
        image = prediction.image
        truths: dict[tuple[int, ...], np.ndarray] = {}  # a ref has several sentences
        for ref, sentence, logits in zip(
            image.refs, image.sentences, prediction.logits, strict=True
        ):
            if ref.ann_ids not in truths:
                truths[ref.ann_ids] = self.protocol.truth(self.dataset, ref, image.geometry)
            mask = self.protocol.decide(logits, image.geometry)
            self.counts.append(overlap(mask, truths[ref.ann_ids]))
            self._ids.append((image.image_id, sentence.sent_id))

    def records(self) -> pd.DataFrame:
        """Return the counts of every expression, by sentence, as `published_scores` stores them."""
        rows = [(*ids, *counts) for ids, counts in zip(self._ids, self.counts, strict=True)]
        return pd.DataFrame(rows, columns=[*COLUMNS]).sort_values("sent_id", ignore_index=True)

    def numbers(self) -> dict[str, float]:
        """Return what the published script prints, as fractions."""
        return numbers(self.records(), self.protocol.scores)
