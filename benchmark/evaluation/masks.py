"""How two masks overlap, and how a mask is written in files: COCO's compressed run-length code."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def overlap(predicted: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Return intersection and union in pixels of two masks.

    Args:
        predicted: bool (height, width).
        truth: bool, or uint8 in {0, 1}, of the same shape.
    """
    truth = truth.astype(bool)
    intersection = int(np.count_nonzero(predicted & truth))
    union = int(np.count_nonzero(predicted)) + int(np.count_nonzero(truth)) - intersection
    return intersection, union


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask, bool (height, width), as plain JSON values.

    They are COCO's compressed run-length code: `{"size": [height, width], "counts": text}`.
    """
    code = coco_mask.encode(np.asfortranarray(mask.astype(bool).astype(np.uint8)))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def decode(rle: Any) -> np.ndarray:
    """Return the mask, bool (height, width), that `encode` wrote down.

    Raises:
        ValueError: this is no such code, or its run lengths do not add up to its size.
    """
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        raise ValueError("a run-length code has the entries 'size' and 'counts'")
    size = rle["size"]
    counts = rle["counts"]
    sides = size if isinstance(size, list | tuple) else ()
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(f"the size of a run-length code is [height, width] and not {size!r}")
    if not isinstance(counts, str):
        raise ValueError("the counts of a run-length code are a text")
    mask = coco_mask.decode({"size": [*sides], "counts": counts.encode("ascii")})
    # pycocotools fills what a short code leaves open with whatever lies in memory. What it read is
    # therefore encoded again: only a code that covers the whole mask comes out as it went in.
    if coco_mask.encode(mask)["counts"].decode("ascii") != counts:
        raise ValueError("the run lengths do not add up to the size of the mask")
    return np.ascontiguousarray(mask).astype(bool)
