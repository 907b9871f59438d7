"""Records are the rows of evaluated expressions, from which every number of the suite is made.

A table has one row per expression, with these columns:

    image_id, ref_id, ann_id, sent_id     whose expression it is (each sent_id occurs once)
    sentence                              the cleaned text
    intersection, union                   of prediction and truth, in pixels of the original image
    swapped_intersection, swapped_union   the same for the prediction of another object's sentence
    target_pixels                         of the ground truth, 0 if the expression has no target
    ...                                   columns that metrics add (see `metrics.Metric.adds`)

Tables that were written before `target_pixels`, or before a metric was there, lack these columns
and are still valid.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_float_dtype, is_integer_dtype, is_numeric_dtype

from benchmark.base.errors import UserError
from benchmark.base.rng import generator
from benchmark.evaluation import metrics
from benchmark.evaluation.masks import overlap

# Tables are read without torch.
if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.data.expressions import ImageExpressions

IDS = ("image_id", "ref_id", "ann_id", "sent_id")
COUNTS = ("intersection", "union")
SWAPPED = ("swapped_intersection", "swapped_union")
TARGET = "target_pixels"
ALWAYS = (*IDS, "sentence", *COUNTS, *SWAPPED)  # columns of the oldest tables, too
COLUMNS = (*ALWAYS, TARGET)


@dataclasses.dataclass
class Prediction:
    """What a method says of one image's expressions.

    Attributes:
        image: its expressions and ground truth. Where a network predicts, it is an
            `EvaluationImage`, which has the picture, too.
        masks: one bool (height, width) per expression.
        logits: what the masks were decided from, float32 (h, w) at the network's own stride, on
            the CPU. There are none where the masks were made elsewhere.
    """

    image: ImageExpressions
    masks: list[np.ndarray]
    logits: list[Tensor]

    def truth(self, number: int) -> np.ndarray:
        """Return the ground truth of expression `number`, uint8 (height, width) in {0, 1}."""
        return self.image.masks[self.image.refs[number].ann_ids]


# --- writing --------------------------------------------------------------------------------------


def records_of(prediction: Prediction) -> list[dict[str, Any]]:
    """Return one record per expression of an image."""
    image = prediction.image
    added = added_columns()
    rows = []
    for number, (ref, sentence) in enumerate(zip(image.refs, image.sentences, strict=True)):
        predicted = prediction.masks[number]
        truth = prediction.truth(number).astype(bool)
        intersection, union = overlap(predicted, truth)
        swapped_intersection, swapped_union = _swap(prediction, number)
        row = {
            "image_id": image.image_id,
            "ref_id": ref.ref_id,
            "ann_id": ref.ann_id,
            "sent_id": sentence.sent_id,
            "sentence": sentence.sent,
            "intersection": intersection,
            "union": union,
            "swapped_intersection": swapped_intersection,
            "swapped_union": swapped_union,
            TARGET: int(np.count_nonzero(truth)),
        }
        rows.append(row | {name: function(predicted, truth) for name, function in added.items()})
    return rows


def _swap(prediction: Prediction, number: int) -> tuple[int, int] | tuple[None, None]:
    """Return intersection and union of a truth and the prediction for *another* object's sentence.

    The sentence is drawn from those of the image with a keyed generator. There is none where the
    image has no second object. Over expressions that have one, mIoU minus swapped mIoU is the
    grounding gap, which is exactly 0 for a network that ignores text.
    """
    image = prediction.image
    own = image.refs[number].ann_ids
    others = [other for other, ref in enumerate(image.refs) if ref.ann_ids != own]
    if not others:
        return None, None
    rng = generator("swap", image.image_id, image.sentences[number].sent_id)
    swapped = others[rng.integers(len(others))]
    return overlap(prediction.masks[swapped], prediction.truth(number))


def added_columns() -> dict[str, metrics.AddedColumn]:
    """Return column -> function of two masks, for all columns that metrics add.

    Raises:
        UserError: a metric adds a column that records have already, or that another metric fills in
            another way.
    """
    added: dict[str, metrics.AddedColumn] = {}
    for name in metrics.names():
        for column, function in metrics.get(name).adds.items():
            # Metrics may share a column, such as one boundary at several thresholds.
            if column in COLUMNS or added.setdefault(column, function) is not function:
                raise UserError(
                    f"the metric '{name}' adds the column '{column}', which records have already"
                    " with another meaning: rename the column."
                )
    return added


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return records as a table in the order of their sentence ids.

    Raises:
        UserError: a column that a metric adds holds something else than numbers.
    """
    added = [*added_columns()]
    # The columns are named, because a process whose part of a small split is empty needs a table,
    # too.
    records = pd.DataFrame(rows, columns=[*COLUMNS, *added])
    types = dict.fromkeys((*IDS, *COUNTS, TARGET), "int64") | dict.fromkeys(SWAPPED, "Int64")
    if records.empty:
        types |= dict.fromkeys(added, "float64")
    records = records.astype(types)
    for name in added:
        if not is_numeric_dtype(records[name]):
            raise UserError(
                f"the column '{name}', which a metric adds, holds {records[name].dtype} and not"
                " numbers: let its function return an int or a float."
            )
    return records.sort_values("sent_id", ignore_index=True)


def canonical(values: dict[str, float]) -> dict[str, float | None]:
    """Return numbers as JSON will read them back, with None for NaN."""
    return json.loads(
        json.dumps({name: None if value != value else value for name, value in values.items()})
    )


# --- checking -------------------------------------------------------------------------------------


def validate_records(records: pd.DataFrame, source: str = "the records table") -> None:
    """Check that a table is what an evaluation writes, or wrote before it stored `target_pixels`.

    Raises:
        UserError: it is empty, a column is missing or of another type, or a row is impossible (a
            missing or negative count, I > U, half a swap, a sent_id twice). The message names
            `source`, the column and the row.
    """

    def refuse(what: str) -> None:
        raise UserError(f"{source} is damaged: {what}. Evaluate the run again.")

    def refuse_rows(bad: np.ndarray, what: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            refuse(f"{what} in row {row} (sent_id {records['sent_id'].iloc[row]})")

    if missing := [name for name in ALWAYS if name not in records]:
        refuse(f"it has no column {' and no column '.join(missing)}")
    if records.empty:
        refuse("it holds no expression")
    # A report checks thousands of tables, and to take a column out of one is slow.
    columns = {name: records[name] for name in (*ALWAYS, TARGET) if name in records}
    targets = (TARGET,) if TARGET in columns else ()
    for name in (*IDS, *COUNTS, *targets):
        if not is_integer_dtype(columns[name]):
            refuse(f"column {name} holds {columns[name].dtype} and not whole numbers")
        refuse_rows(columns[name].isna().to_numpy(), f"column {name} is empty")
    # A column of text is told at once, unless something is missing in it.
    sentences = columns["sentence"]
    if infer_dtype(sentences, skipna=False) != "string" or sentences.hasnans:
        is_text = [isinstance(sentence, str) for sentence in sentences]
        refuse_rows(~np.array(is_text), "column sentence holds no text")
    for name in SWAPPED:
        if not (is_integer_dtype(columns[name]) or is_float_dtype(columns[name])):
            refuse(f"column {name} holds {columns[name].dtype} and not whole numbers")
    # Everything below compares numbers, and a missing one is neither too small nor too large.
    numbers = {
        name: columns[name].to_numpy(np.float64, na_value=np.nan)
        for name in (*COUNTS, *SWAPPED, *targets)
    }
    for name in SWAPPED:
        parts = numbers[name] % 1
        refuse_rows((parts != 0) & ~np.isnan(parts), f"column {name} is not a whole number")
    refuse_rows(
        columns["sent_id"].duplicated().to_numpy(), "a sent_id stands there for the second time"
    )
    halves = [np.isnan(numbers[name]) for name in SWAPPED]
    refuse_rows(halves[0] != halves[1], f"only one of {' and '.join(SWAPPED)} is there")
    # What is part of something has no more pixels than the whole.
    ordered = [COUNTS, SWAPPED]
    ordered += [
        pair for target in targets for pair in (("intersection", target), (target, "union"))
    ]
    for part, whole in ordered:
        refuse_rows(numbers[part] < 0, f"column {part} is negative")
        refuse_rows(numbers[part] > numbers[whole], f"{part} exceeds {whole}")
