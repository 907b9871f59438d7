"""Masks that others predicted for a split, and the records that they give.

A mask is kept as run lengths of its image's size, so a split takes no more memory than its file.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from pycocotools import mask as coco_mask

from benchmark.base.files import open_regular
from benchmark.data.expressions import expressions_by_image
from benchmark.data.pictures import DECODING_ERRORS
from benchmark.data.refer import ReferDataset
from benchmark.data.segmentations import parts, read_segmentation
from benchmark.evaluation import masks
from benchmark.evaluation.records import Prediction, frame, records_of

DAMAGED = (*DECODING_ERRORS, KeyError, TypeError, OverflowError, MemoryError)


class OtherSize(Exception):
    """A mask does not have the size of its image."""


@dataclasses.dataclass(frozen=True)
class PredictedMasks:
    """The masks of a split.

    Attributes:
        sizes: sent_id of each expression of the split -> height and width of its image, in pixels.
        codes: sent_id -> run lengths, as COCO compresses them. Expressions without a mask are not
            there.
        others: number of entries that are about other expressions of the data set, and are not
            read.
        left_out: ids of images of which no mask is wanted.
    """

    sizes: dict[int, tuple[int, int]]
    codes: dict[int, bytes]
    others: int = 0
    left_out: frozenset[int] = frozenset()

    @classmethod
    def of(cls, table: pd.DataFrame) -> PredictedMasks:
        """Return the masks of a table in which no expression lacks one (see `masks`)."""
        codes = masks.codes(table)
        return cls(
            sizes={sent_id: tuple(code["size"]) for sent_id, code in codes.items()},
            codes={sent_id: code["counts"].encode() for sent_id, code in codes.items()},
        )

    @property
    def missing(self) -> list[int]:
        """The sent_ids without a mask, in order. Their masks count as empty."""
        return sorted(self.sizes.keys() - self.codes.keys())

    def mask(self, sent_id: int) -> np.ndarray:
        """Return the mask of an expression, bool (height, width)."""
        size = self.sizes[sent_id]
        if sent_id not in self.codes:
            return np.zeros(size, bool)
        code = {"size": [*size], "counts": self.codes[sent_id]}
        return np.ascontiguousarray(coco_mask.decode(code)).astype(bool)

    def table(self) -> pd.DataFrame:
        """Return the masks as a run keeps them (see `masks`), with an empty one for a missing."""
        empty = {size: run_lengths([], *size) for size in {*self.sizes.values()}}
        rows = [
            (sent_id, *size, self.codes.get(sent_id, empty[size]).decode("ascii"))
            for sent_id, size in self.sizes.items()
        ]
        return masks.frame([dict(zip(masks.COLUMNS, row, strict=True)) for row in rows])

    def digest(self) -> str:
        """Return the sha256 (hex) of the masks, which does not depend on the format of the file."""
        its = hashlib.sha256()
        for sent_id, counts in sorted(self.codes.items()):
            height, width = self.sizes[sent_id]
            its.update(f"{sent_id} {height} {width} ".encode() + counts + b"\n")
        return its.hexdigest()


def score(
    dataset: ReferDataset,
    split: str,
    predicted: PredictedMasks,
    on_image: Callable[[Prediction], None] = lambda prediction: None,
) -> pd.DataFrame:
    """Return the records of a split, as the evaluation of a network makes them.

    Args:
        dataset: holds the ground truth.
        split: name of the split.
        predicted: its masks.
        on_image: is called with the masks of every image, for progress.

    Raises:
        UserError: an annotation of the data set is missing or damaged.
    """
    rows: list[dict[str, Any]] = []
    for prediction in by_image(dataset, split, predicted):
        rows += records_of(prediction)
        on_image(prediction)
    return frame(rows)


def by_image(dataset: ReferDataset, split: str, predicted: PredictedMasks) -> Iterator[Prediction]:
    """Yield the masks of each image of a split with its expressions, in the order of the ids.

    Raises:
        UserError: an annotation of the data set is missing or damaged.
    """
    for image in expressions_by_image(dataset, split):
        if image.image_id not in predicted.left_out:
            masks_of = [predicted.mask(sentence.sent_id) for sentence in image.sentences]
            yield Prediction(image, masks_of, [])


# --- one mask -------------------------------------------------------------------------------------


def run_lengths(segmentation: Any, height: int, width: int) -> bytes:
    """Return a mask as compressed run lengths of its image's size.

    Its size is compared before anything of that size is made.

    Args:
        segmentation: an RLE whose counts are a text or a list, polygons, or the path of a PNG.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Raises:
        OtherSize: it has another size.
        DAMAGED: it is no mask.
    """
    if isinstance(segmentation, Path):
        return _picture(segmentation, height, width)
    if isinstance(segmentation, dict):
        size, counts = segmentation["size"], segmentation["counts"]
        if not isinstance(size, list | tuple) or len(size) != 2:
            raise ValueError(f"the size of an RLE is [height, width] and not {size!r:.40}")
        _check_size((size[0], size[1]), height, width)
        if isinstance(counts, list) and not all(type(count) is int for count in counts):
            raise ValueError("its run lengths are no whole numbers")
    elif not isinstance(segmentation, list):
        raise ValueError("its segmentation is neither an RLE nor polygons")
    merged = coco_mask.merge(parts(read_segmentation(segmentation), height, width))
    return merged["counts"]


def _check_size(size: tuple[Any, Any], height: int, width: int) -> None:
    if size != (height, width):
        raise OtherSize(f"{size[1]!s:.20} x {size[0]!s:.20} and not {width} x {height}")


def _picture(path: Path, height: int, width: int) -> bytes:
    """Return the mask of a PNG file, in which 0 is outside and one other value is inside."""
    with open_regular(path) as content, Image.open(content, formats=("PNG",)) as file:
        _check_size((file.height, file.width), height, width)
        values = np.asarray(file)
    if values.ndim == 3:
        # The last channel of two or four is transparency, which says nothing of the mask.
        values = values[..., : values.shape[2] - (values.shape[2] in (2, 4))].max(axis=2)
    inside = values != 0
    if inside.any() and np.ptp(values[inside].astype(np.int64)) > 0:
        raise ValueError("it has more than two values, so it is no mask: cut it at its threshold")
    return coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))["counts"]
