"""Records summed by image, which is all that their numbers, intervals and comparisons need.

A run of thousands of expressions becomes a small array per split. A report therefore reads each
file of records once, and keeps little of it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import weakref
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from benchmark.base.errors import UserError
from benchmark.evaluation import metrics
from benchmark.evaluation.metrics import Metric
from benchmark.evaluation.records import validate_records

IDS = ("sent_id", "image_id", "ann_id")


@dataclasses.dataclass(frozen=True, eq=False)
class Expressions:
    """Which expressions a table is about.

    Attributes:
        ids: sent_id, image_id and ann_id of each row, by sent_id, int64 (rows, 3).
    """

    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sentences(self) -> np.ndarray:
        """The sent_ids, in rising order, int64 (rows,)."""
        return self.ids[:, 0]


# The runs of a data set are about the same expressions, which are kept once for all of them.
_KNOWN: weakref.WeakValueDictionary[bytes, Expressions] = weakref.WeakValueDictionary()


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSums:
    """Records summed by image.

    Attributes:
        expressions: that the records are about.
        metrics: those that the records have the columns for.
        points: metric -> its value over all expressions, NaN where no expression counts.
        sums: of the metrics' terms, in the order of image ids, float64 (images, 2, metrics).

    Two of them are equal if their numbers are, so that a comparison is made once.
    """

    expressions: Expressions
    metrics: tuple[Metric, ...]
    points: dict[str, float]
    sums: np.ndarray

    @functools.cached_property
    def digest(self) -> bytes:
        """A digest of the expressions, the metrics and their sums."""
        names = " ".join(metric.name for metric in self.metrics)
        parts = hashlib.sha256(names.encode())
        parts.update(self.expressions.ids)
        parts.update(self.sums)
        return parts.digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageSums) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @classmethod
    def of(cls, records: pd.DataFrame, chosen: Sequence[Metric] | None = None) -> ImageSums:
        """Return the sums of records, which are not checked.

        Args:
            records: with `image_id`, `sent_id` and what the metrics read. An expression may stand
                in several rows.
            chosen: the metrics, which need not be registered [all that are recorded].
        """
        if chosen is None:
            chosen = [metrics.get(name) for name in metrics.available(records)]
        ordered = metrics.by_sentence(records)
        terms = metrics.terms(ordered, chosen)
        points = metrics.values(terms, chosen)
        _, image = np.unique(ordered["image_id"], return_inverse=True)
        columns = terms.reshape(len(ordered), -1).T
        sums = np.stack([np.bincount(image, weights=column) for column in columns], axis=1)
        return cls(_expressions(ordered), tuple(chosen), points, sums.reshape(-1, 2, len(chosen)))

    @property
    def images(self) -> int:
        """The number of images. One alone has no interval, since resampling it says nothing."""
        return len(self.sums)

    def named(self, names: Sequence[str]) -> np.ndarray:
        """Return the sums of the named metrics, float64 (images, 2, names)."""
        places = {metric.name: place for place, metric in enumerate(self.metrics)}
        return self.sums[..., [places[name] for name in names]]


def _expressions(ordered: pd.DataFrame) -> Expressions:
    # Tables of published counts are about images and sentences alone.
    nothing = np.zeros(len(ordered))
    columns = [ordered[name] if name in ordered else nothing for name in IDS]
    ids = np.stack([np.asarray(column, np.int64) for column in columns], axis=1)
    digest = hashlib.sha256(ids.tobytes()).digest()
    return _KNOWN.setdefault(digest, Expressions(ids))


def validated(records: pd.DataFrame, source: str) -> ImageSums:
    """Return the sums of records that an evaluation wrote.

    Raises:
        UserError: the records are damaged. The message names `source`.
    """
    validate_records(records, source)
    return ImageSums.of(records)


def same_expressions(
    tables: Mapping[str, pd.DataFrame | ImageSums],
) -> dict[str, ImageSums]:
    """Return the sums of tables that are about the same expressions.

    Args:
        tables: what messages call a table -> its records, or their sums.

    Raises:
        UserError: a table is damaged, or an expression is missing in one, or of another image or
            annotation there. The message names both tables.
    """
    summed = {
        name: table
        if isinstance(table, ImageSums)
        else validated(table, f"the records table of {name}")
        for name, table in tables.items()
    }
    (first, reference), *others = summed.items()
    for name, table in others:
        _check_same(first, reference.expressions.ids, name, table.expressions.ids)
    return summed


def _check_same(first: str, reference: np.ndarray, name: str, other: np.ndarray) -> None:
    if reference is other or np.array_equal(reference, other):
        return
    for one, another, has, lacks in (
        (reference, other, first, name),
        (other, reference, name, first),
    ):
        if len(lost := np.setdiff1d(one[:, 0], another[:, 0])):
            some = ", ".join(map(str, lost[:5])) + (" ..." if len(lost) > 5 else "")
            raise UserError(
                f"runs are compared on the same expressions, but {len(lost)} of {has} are"
                f" missing in {lacks} (sent_id {some}): evaluate both on the same data."
            )
    for place, column in enumerate(IDS[1:], 1):
        if len(rows := np.flatnonzero(reference[:, place] != other[:, place])):
            sent_id = reference[rows[0], 0]
            raise UserError(
                f"runs are compared on the same expressions, but sent_id {sent_id} has"
                f" another {column} in {first} than in {name}: evaluate both on the same data."
            )
