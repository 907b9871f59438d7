"""The registry of metrics, which turn records into numbers.

Each metric is a ratio of two sums over expressions:

    oiou            sum I / sum U
    miou            sum IoU / expressions
    p_50 .. p_90    expressions with IoU >= X / expressions, decided in whole pixels
    grounding_gap   sum (IoU - swapped IoU) / expressions, both over those that have a swap. It is
                    mIoU minus swapped mIoU, and exactly 0 for a network that ignores the text.
    giou            sum of IoU, or of 1 for an empty mask where there is no target / expressions
    n_acc           expressions without a target whose mask is empty / expressions without a target
    t_acc           expressions with a target whose mask is not empty / expressions with a target

I and U are intersection and union of one expression, and IoU = I / U, which is 0 where U = 0.
Because every metric is a ratio of sums, one bootstrap serves them all. Values are fractions in
0..1 (the gap and differences: -1..1), never percent.

The last three are those of generalized referring expression segmentation (GRES, Liu et al., CVPR
2023), whose cIoU is `oiou`. Only records with an expression that has no target have them. A mask
counts as empty if it has no pixel. The published code asks a head of its own network whether there
is a target, and a network without one has nothing but its mask. Some code takes masks of fewer than
50 pixels for empty, which would change what a small object scores. T-acc is as the paper defines
it, since the published code divides by other counts.

A new metric is one more entry of `SHIPPED`, or a `Metric` of a plugin. Evaluation then stores the
columns that it adds, and result.json, metrics.jsonl, tables and MLflow show its value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmark.base.errors import UserError, choose
from benchmark.base.registry import Registry
from benchmark.data.refs import NO_TARGET

if TYPE_CHECKING:  # Plans check the names of metrics, for which they need not wait for pandas.
    import pandas as pd

Terms = Callable[["pd.DataFrame"], np.ndarray]  # records -> float64 (rows,)
AddedColumn = Callable[[np.ndarray, np.ndarray], int | float]  # predicted mask, truth mask -> value


@dataclasses.dataclass(frozen=True)
class Metric:
    """The sum of `top` divided by the sum of `bottom`, both over expressions.

    Attributes:
        name: what result.json, metrics.jsonl, tables and MLflow call it.
        heading: what people call it, for the heads of tables.
        described_by: one sentence that defines it, for the text under a table.
        top: records -> what each expression adds to the numerator, float64 (rows,).
        bottom: the same for the denominator. None: every expression counts one, so that the metric
            is a mean.
        unit: of the values when they are shown. A fraction has `percent`.
        higher_is_better: whether a larger value is an improvement.
        judged: whether it may be the primary metric of a comparison, which has a verdict.
        empty: the value where there are expressions but the denominator is 0.
        needs: columns that it reads beyond those of the oldest records, such as `target_pixels`.
        applies: records -> whether they are of the kind that it is about. Nothing shows it of other
            records. None: it is about all records.
        adds: column -> function of two bool masks (height, width), the predicted one and the ground
            truth. Evaluation stores its value, an int or a float, in that column of the records.
    """

    name: str
    heading: str
    described_by: str
    top: Terms
    bottom: Terms | None = None
    unit: str = "percent"
    higher_is_better: bool = True
    judged: bool = False
    empty: float = math.nan
    needs: tuple[str, ...] = ()
    applies: Callable[[pd.DataFrame], bool] | None = None
    adds: Mapping[str, AddedColumn] = dataclasses.field(default_factory=dict)

    @property
    def factor(self) -> float:
        """What a value is multiplied by to be shown in `unit`."""
        return 100.0 if self.unit == "percent" else 1.0

    def recorded(self, records: pd.DataFrame) -> bool:
        """Return whether the records are of its kind and have every column that it reads."""
        if not {*self.needs, *self.adds} <= set(records.columns):
            return False
        return self.applies is None or self.applies(records)


# --- what the suite ships -------------------------------------------------------------------------


def iou(records: pd.DataFrame) -> np.ndarray:
    """Return the IoU of every expression, float64 (rows,), which is 0 where U = 0."""
    return _quotient(records, "intersection", "union")


def _quotient(records: pd.DataFrame, intersection: str, union: str) -> np.ndarray:
    """Return I / U of two columns: 0 where U = 0, and NaN where the counts are missing."""
    top, bottom = (
        records[name].to_numpy(np.float64, na_value=np.nan) for name in (intersection, union)
    )
    return np.divide(top, bottom, out=np.zeros(len(records)), where=bottom != 0)


def _pixels(column: str) -> Terms:
    return lambda records: records[column].to_numpy(np.float64)


def _hits(tenths: int) -> Terms:
    """Return the function that marks expressions whose IoU is at least `tenths` tenths."""

    def hits(records: pd.DataFrame) -> np.ndarray:
        # Whole numbers, because 7 / 10 >= 0.7 is a matter of rounding.
        intersection, union = (
            records[name].to_numpy(np.int64) for name in ("intersection", "union")
        )
        return ((10 * intersection >= tenths * union) & (union > 0)).astype(np.float64)

    return hits


def _swapped(records: pd.DataFrame) -> np.ndarray:
    return _quotient(records, "swapped_intersection", "swapped_union")


def _has_swap(records: pd.DataFrame) -> np.ndarray:
    return (~np.isnan(_swapped(records))).astype(np.float64)


def _gap(records: pd.DataFrame) -> np.ndarray:
    swapped = _swapped(records)
    return np.where(np.isnan(swapped), 0, iou(records) - swapped)


def _has_no_target(records: pd.DataFrame) -> np.ndarray:
    """Return which expressions name nothing in the image, bool (rows,)."""
    return records["ann_id"].to_numpy() == NO_TARGET


def _some_without_target(records: pd.DataFrame) -> bool:
    return "ann_id" in records and bool(_has_no_target(records).any())


def _rejected(records: pd.DataFrame) -> np.ndarray:
    """Return where there is no target and no pixel is predicted, float64 (rows,)."""
    # Without a target the union is what is predicted.
    is_empty = records["union"].to_numpy() == 0
    return (_has_no_target(records) & is_empty).astype(np.float64)


def _found(records: pd.DataFrame) -> np.ndarray:
    """Return where there is a target and some pixel is predicted, float64 (rows,)."""
    intersection, union, target = (
        records[name].to_numpy() for name in ("intersection", "union", "target_pixels")
    )
    is_empty = union - target + intersection == 0
    return (~_has_no_target(records) & ~is_empty).astype(np.float64)


OIOU = Metric(
    name="oiou",
    heading="oIoU",
    described_by="oIoU is the sum of all intersections divided by the sum of all unions.",
    top=_pixels("intersection"),
    bottom=_pixels("union"),
    judged=True,
    empty=0.0,  # expressions without one pixel
)
MIOU = Metric(
    name="miou",
    heading="mIoU",
    described_by="mIoU is the mean IoU of the expressions.",
    top=iou,
    judged=True,
)
SHIPPED = (
    OIOU,
    MIOU,
    *(
        Metric(
            name=f"p_{tenths}0",
            heading=f"P@0.{tenths}",
            described_by=f"P@0.{tenths} is the share of expressions whose IoU is >= 0.{tenths}.",
            top=_hits(tenths),
        )
        for tenths in (5, 6, 7, 8, 9)
    ),
    Metric(
        name="grounding_gap",
        heading="gap",
        described_by=(
            "gap (grounding gap) is mIoU minus the mIoU of what the network says to a sentence"
            " about another object of the image, and 0 for a network that ignores the text."
        ),
        top=_gap,
        bottom=_has_swap,
    ),
    Metric(
        name="giou",
        heading="gIoU",
        described_by=(
            "gIoU is mIoU where an expression without a target counts 1 if its mask is empty, and 0"
            " otherwise."
        ),
        top=lambda records: iou(records) + _rejected(records),
        judged=True,
        applies=_some_without_target,
    ),
    Metric(
        name="n_acc",
        heading="N-acc",
        described_by=("N-acc is the share of expressions without a target whose mask is empty."),
        top=_rejected,
        bottom=lambda records: _has_no_target(records).astype(np.float64),
        applies=_some_without_target,
    ),
    Metric(
        name="t_acc",
        heading="T-acc",
        described_by="T-acc is the share of expressions with a target whose mask is not empty.",
        top=_found,
        bottom=lambda records: (~_has_no_target(records)).astype(np.float64),
        needs=("target_pixels",),
        applies=_some_without_target,
    ),
)

METRICS: Registry[Metric] = Registry(
    "metrics",
    "metric",
    lambda: {metric.name: lambda metric=metric: metric for metric in SHIPPED},
    lambda: Metric,
)


# --- the registry ---------------------------------------------------------------------------------


def names() -> list[str]:
    """Return the names of all metrics: shipped ones as they are defined, then plugins by name."""
    shipped = [metric.name for metric in SHIPPED]
    return shipped + [name for name in METRICS.names() if name not in shipped]


def get(name: str) -> Metric:
    """Return the metric called `name`.

    Raises:
        UserError: there is none (the nearest names are listed), or a plugin registers a metric
            under another name than its own.
    """
    metric = METRICS.get(name)
    if metric.name != name:
        raise UserError(
            f"the metric '{name}' is called '{metric.name}' in its Metric: give it one name."
        )
    return metric


def judged() -> list[Metric]:
    """Return the metrics that may be judged, in the order of `names`."""
    return [metric for metric in map(get, names()) if metric.judged]


def check_judged(chosen: Iterable[str]) -> None:
    """Check that all of `chosen` may be judged.

    Raises:
        UserError: one may not, or is not known. The nearest ones that may are listed.
    """
    for name in chosen:
        choose(name, [metric.name for metric in judged()], "judged metric")


def expected(beside: Iterable[str]) -> list[str]:
    """Return the metrics that are about all records, and some of the others, by `names`' order.

    Args:
        beside: names of metrics, of which those that are about some records alone are returned.
    """
    wanted = {*beside}
    return [name for name in names() if get(name).applies is None or name in wanted]


def available(*tables: pd.DataFrame) -> list[str]:
    """Return the names of the metrics whose columns every table has, in the order of `names`.

    The others are "not recorded", since a table was written before their columns were, or are
    about other records.
    """
    return [name for name in names() if all(get(name).recorded(records) for records in tables)]


# --- numbers --------------------------------------------------------------------------------------


def compute(records: pd.DataFrame) -> dict[str, float]:
    """Return the value of every available metric, NaN where no expression counts."""
    chosen = [get(name) for name in available(records)]
    return values(terms(by_sentence(records), chosen), chosen)


def values(terms: np.ndarray, chosen: Sequence[Metric]) -> dict[str, float]:
    """Return metric -> its value over expressions, NaN where there is none.

    Args:
        terms: what each expression adds, float64 (rows, 2, metrics), as `terms` returns it.
        chosen: the metrics, in that order.
    """
    if not len(terms):
        return {metric.name: math.nan for metric in chosen}
    found = ratios(terms.sum(axis=0), chosen).tolist()
    return dict(zip([metric.name for metric in chosen], found, strict=True))


def by_sentence(records: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in the order of sent_id, which fixes the bits of their sums."""
    ids = records["sent_id"].to_numpy()
    return records if (ids[1:] > ids[:-1]).all() else records.sort_values("sent_id")


def terms(records: pd.DataFrame, chosen: Sequence[Metric]) -> np.ndarray:
    """Return what each expression adds to numerator and denominator, float64 (rows, 2, metrics)."""
    one = np.ones(len(records))
    top = [metric.top(records) for metric in chosen]
    bottom = [metric.bottom(records) if metric.bottom else one for metric in chosen]
    return np.stack([np.stack(top, axis=1), np.stack(bottom, axis=1)], axis=1).astype(np.float64)


def ratios(sums: np.ndarray, chosen: Sequence[Metric]) -> np.ndarray:
    """Return the metrics (..., metrics) of sums of terms (..., 2, metrics).

    Every sum is over at least one expression.
    """
    top, bottom = sums[..., 0, :], sums[..., 1, :]
    values = np.broadcast_to([metric.empty for metric in chosen], top.shape).copy()
    return np.divide(top, bottom, out=values, where=bottom > 0)
