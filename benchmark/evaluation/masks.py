"""How two masks overlap, and how a mask is written in files: COCO's compressed run-length code.

A table of masks has one row per expression, with these columns:

    sent_id           whose mask it is
    height, width     of the original image, in pixels
    counts            the run lengths, as COCO compresses them into text
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

# Tables are read without torch.
if TYPE_CHECKING:
    from benchmark.evaluation.records import Prediction

COLUMNS = ("sent_id", "height", "width", "counts")


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


# --- tables ---------------------------------------------------------------------------------------


def rows_of(prediction: Prediction, sent_ids: Container[int] | None = None) -> list[dict[str, Any]]:
    """Return one row per expression of an image, for `frame`.

    Args:
        prediction: the masks of the image's expressions.
        sent_ids: the expressions that get a row. By default they are all.
    """
    rows = []
    for sentence, mask in zip(prediction.image.sentences, prediction.masks, strict=True):
        if sent_ids is not None and sentence.sent_id not in sent_ids:
            continue
        code = encode(mask)
        values = (sentence.sent_id, *code["size"], code["counts"])
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return rows of masks as a table in the order of their sentence ids."""
    # The columns are named, because a part of a small split may be empty.
    table = pd.DataFrame(rows, columns=[*COLUMNS])
    types = dict.fromkeys(COLUMNS[:3], "int64") | {"counts": "str"}
    return table.astype(types).sort_values("sent_id", ignore_index=True)


def codes(table: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """Return sent_id -> run-length code, as `encode` makes it, of a table of masks."""
    return {
        int(row.sent_id): {"size": [int(row.height), int(row.width)], "counts": row.counts}
        for row in table.itertuples()
    }


def as_coco(records: pd.DataFrame, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the masks of a split as a list in COCO's format of results.

    Each entry has COCO's `image_id`, `category_id`, `segmentation` and `score`, so that
    pycocotools' `COCO.loadRes` reads it, and `sent_id`, `ref_id` and `sentence`, which say what the
    mask answers. A network for referring expressions predicts neither a category, which is null,
    nor a score, which is 1.

    Args:
        records: of the split.
        table: the masks of the same expressions.
    """
    by_sentence = codes(table)
    return [
        {
            "image_id": int(row.image_id),
            "category_id": None,
            "segmentation": by_sentence[int(row.sent_id)],
            "score": 1.0,
            "sent_id": int(row.sent_id),
            "ref_id": int(row.ref_id),
            "sentence": row.sentence,
        }
        for row in records.itertuples()
    ]
