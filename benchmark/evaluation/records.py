"""TODO."""

import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_float_dtype, is_integer_dtype
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.base.rng import generator
from benchmark.data.images import EvaluationImage


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


def canonical(values: dict[str, float]) -> dict[str, float]:
    """Return numbers as JSON will read them back (missing ones as None)."""
    return json.loads(json.dumps({name: None if value != value else value for name, value in values.items()}))


IDS = ("image_id", "ref_id", "ann_id", "sent_id")
COUNTS = ("intersection", "union")
SWAPPED = ("swapped_intersection", "swapped_union")
COLUMNS = (*IDS, "sentence", *COUNTS, *SWAPPED)


# --- one table of records ---------------------------------------------------------------------------------------------


def validate_records(records: pd.DataFrame, source: str = "the records table") -> None:
    """Check that a table is what an evaluation writes.

    Raises:
        UserError: it is empty, a column is missing or of another type, or a row is impossible (a missing or negative
            count, I > U, half a swap, a sent_id twice); the message names `source`, the column and the row.
    """

    def refuse(what: str) -> None:
        raise UserError(f"{source} is damaged: {what}; evaluate the run again.")

    def refuse_rows(bad: pd.Series, what: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            refuse(f"{what} in row {row} (sent_id {records['sent_id'].iloc[row]})")

    if missing := [name for name in COLUMNS if name not in records]:
        refuse(f"it has no column {' and no column '.join(missing)}")
    if records.empty:
        refuse("it holds no expression")
    for name in (*IDS, *COUNTS):
        if not is_integer_dtype(records[name]):
            refuse(f"column {name} holds {records[name].dtype} and not whole numbers")
        refuse_rows(records[name].isna(), f"column {name} is empty")
    refuse_rows(~records["sentence"].map(lambda sentence: isinstance(sentence, str)), "column sentence holds no text")
    for name in SWAPPED:
        if not (is_integer_dtype(records[name]) or is_float_dtype(records[name])):
            refuse(f"column {name} holds {records[name].dtype} and not whole numbers")
        refuse_rows(records[name].notna() & ((records[name] % 1) != 0), f"column {name} is not a whole number")
    refuse_rows(records["sent_id"].duplicated(), "a sent_id stands there for the second time")
    halves = [records[name].isna() for name in SWAPPED]
    refuse_rows(halves[0] != halves[1], f"only one of {' and '.join(SWAPPED)} is there")
    for intersection, union in (COUNTS, SWAPPED):
        refuse_rows((records[intersection] < 0).fillna(False), f"column {intersection} is negative")
        refuse_rows((records[intersection] > records[union]).fillna(False), f"{intersection} exceeds {union}")
