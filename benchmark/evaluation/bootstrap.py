"""Records -> numbers, intervals, paired differences: pure functions, one definition of every metric.

Records are a table with one row per referring expression and the columns of `COLUMNS`. IoU = I / U of one expression,
0 where U = 0. Every metric is a ratio of two sums over expressions, so one bootstrap serves them all:

    oiou            sum I / sum U
    miou            sum IoU / expressions
    p_50 .. p_90    expressions with IoU >= X / expressions, decided in whole pixels
    grounding_gap   sum (IoU - swapped IoU) / expressions, both over those that have a swap: mIoU minus swapped mIoU,
                    exactly 0 for a network that ignores the text

All are fractions in 0..1 (the gap and differences: -1..1), never percent; NaN where no expression counts.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from benchmark.base.errors import UserError
from benchmark.base.rng import generator
from benchmark.evaluation.metrics import METRICS, _ratios, _sorted, _terms, metrics
from benchmark.evaluation.records import validate_records

RESAMPLES = 2000
CONFIDENCE = 0.95
WEIGHTS_AT_ONCE = 2**22  # entries of the (resamples, images) weights held in memory: 32 MiB

Verdict = Literal["confirmed", "contradicted", "undecided"]


class Interval(NamedTuple):
    """The 95 % bootstrap interval of one number; both ends NaN where there is none."""

    low: float
    high: float


class Summary(NamedTuple):
    """What the seeds say: mean, sample standard deviation (ddof = 1; None for a single seed), number of seeds."""

    mean: float
    deviation: float | None
    seeds: int


@dataclasses.dataclass(frozen=True)
class Difference:
    """MaskRIS minus baseline of one metric on the same expressions.

    Attributes:
        value: mean of the differences of all seeds.
        interval: of the mean over seeds, images resampled.
        p_value: two-sided bootstrap p-value of no difference, for `holm`; at least 2 / (resamples + 1), and NaN where
            there is no interval.
        per_seed: seed -> difference.
    """

    value: float
    interval: Interval
    p_value: float
    per_seed: dict[int, float]


# --- bootstrap by image -----------------------------------------------------------------------------------------------


def intervals(*seeds: pd.DataFrame, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Return the 95 % percentile interval of every metric, images resampled with all their expressions.

    The unit is the image because the expressions of one image are not independent. With several tables, the records of
    several seeds on the same expressions, it is the interval of the mean over the seeds; it says how much the choice of
    test images matters, not how much the seed does. One image alone has no interval.

    Raises:
        UserError: the tables are not about the same expressions.
    """
    _check_same_expressions({f"table {number}": records for number, records in enumerate(seeds)})
    means = resampled(seeds, resamples).mean(axis=0)
    return {name: _interval(means[:, number], seeds[0]) for number, name in enumerate(METRICS)}


def paired_differences(
    baseline: Mapping[int, pd.DataFrame], maskris: Mapping[int, pd.DataFrame], resamples: int = RESAMPLES
) -> dict[str, Difference]:
    """Return MaskRIS minus baseline for every metric, paired on the same expressions and per seed.

    A resample draws the images once and uses them for all seeds of both strategies; its difference is the mean over
    seeds of each pair's difference (for mIoU and P@X, which are linear, this resamples the images' seed means).

    Args:
        baseline, maskris: seed -> records.

    Raises:
        UserError: the strategies have not the same seeds, or the records are not about the same expressions.
    """
    if baseline.keys() != maskris.keys() or not baseline:
        raise UserError(
            f"strategies are compared seed by seed, but the baseline has {_seeds(baseline)} and MaskRIS"
            f" {_seeds(maskris)}; run the missing ones."
        )
    order = sorted(baseline)
    named = {"baseline": baseline, "maskris": maskris}
    _check_same_expressions({f"{name} seed {seed}": runs[seed] for name, runs in named.items() for seed in order})
    points = np.array([[list(metrics(runs[seed]).values()) for seed in order] for runs in named.values()])
    per_seed = points[1] - points[0]  # (seeds, metrics)
    drawn = resampled([runs[seed] for runs in named.values() for seed in order], resamples)
    differences = (drawn[len(order) :] - drawn[: len(order)]).mean(axis=0)  # (resamples, metrics)
    records = baseline[order[0]]
    return {
        name: Difference(
            value=float(per_seed[:, number].mean()),
            interval=(interval := _interval(differences[:, number], records)),
            p_value=np.nan if np.isnan(interval.low) else _p_value(differences[:, number]),
            per_seed=dict(zip(order, per_seed[:, number].tolist(), strict=True)),
        )
        for number, name in enumerate(METRICS)
    }


def _seeds(runs: Mapping[int, pd.DataFrame]) -> str:
    return f"seeds {', '.join(map(str, sorted(runs)))}" if runs else "none"


def _check_same_expressions(tables: Mapping[str, pd.DataFrame]) -> None:
    for name, table in tables.items():
        validate_records(table, f"the records table of {name}")
    (first, reference), *others = ((name, table.set_index("sent_id").sort_index()) for name, table in tables.items())
    for name, table in others:
        for one, other, has, lacks in ((reference, table, first, name), (table, reference, name, first)):
            if len(lost := one.index.difference(other.index)):
                some = ", ".join(map(str, lost[:5])) + (" ..." if len(lost) > 5 else "")
                raise UserError(
                    f"runs are compared on the same expressions, but {len(lost)} of {has} are missing in {lacks}"
                    f" (sent_id {some}); evaluate both on the same data."
                )
        for column in ("image_id", "ann_id"):
            if (differs := (reference[column] != table[column])).any():
                raise UserError(
                    f"runs are compared on the same expressions, but sent_id {differs.idxmax()} has another {column} in"
                    f" {first} than in {name}; evaluate both on the same data."
                )


def _image_sums(records: pd.DataFrame) -> np.ndarray:
    """Return the terms summed per image, images in the order of their ids: (images, 2 * metrics)."""
    records = _sorted(records)
    _, image = np.unique(records["image_id"], return_inverse=True)
    terms = _terms(records).reshape(len(records), -1)
    return np.stack([np.bincount(image, weights=column) for column in terms.T], axis=1)


def resampled(runs: Sequence[pd.DataFrame], resamples: int = RESAMPLES) -> np.ndarray:
    """Return the metrics of every resample, (runs, resamples, metrics); all runs see the same images in each.

    The tables are about the same images; an image that is drawn brings all its rows of every table.

    Drawing images with replacement is a matrix product of how often each was drawn with the sums per image.
    """
    sums = np.stack([_image_sums(records) for records in runs])
    images = sums.shape[1]
    stream = generator("bootstrap")
    at_once = max(1, WEIGHTS_AT_ONCE // images)
    totals = []
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = stream.integers(images, size=(count, images)) + images * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * images).reshape(count, images)
        totals.append(weights.astype(np.float64) @ sums)
    return _ratios(np.concatenate(totals, axis=1).reshape(len(runs), resamples, 2, len(METRICS)))


def _interval(drawn: np.ndarray, records: pd.DataFrame) -> Interval:
    return percentile_interval(drawn) if records["image_id"].nunique() > 1 else Interval(np.nan, np.nan)


def percentile_interval(drawn: np.ndarray) -> Interval:
    """Return the interval over the resamples (N,) in which the number exists."""
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        return Interval(np.nan, np.nan)
    tail = (1 - CONFIDENCE) / 2
    return Interval(*np.quantile(defined, (tail, 1 - tail)).tolist())


def _p_value(drawn: np.ndarray) -> float:
    """Return the smallest level at which a two-sided percentile interval excludes 0, the observed sample counted as one
    resample so that it is never 0 (Davison and Hinkley 1997, chapter 4)."""
    defined = drawn[~np.isnan(drawn)]
    rarer = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return float(min(1, 2 * (rarer + 1) / (len(defined) + 1)))


# --- many numbers -----------------------------------------------------------------------------------------------------


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for all tests of a table (Holm 1979), in the given order; NaN is no test and stays."""
    given = np.asarray(p_values, np.float64)
    tests = np.flatnonzero(~np.isnan(given))
    order = tests[np.argsort(given[tests], kind="stable")]
    stepped = given[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(given.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted.tolist()


def summary(values: Sequence[float]) -> Summary:
    """Return mean and spread over seeds.

    Raises:
        statistics.StatisticsError: there is no value.
    """
    return Summary(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def verdict(per_seed: Sequence[float], interval: Interval) -> Verdict:
    """Return whether a claimed improvement is confirmed: at least three seed pairs, all differences of one sign, and an
    interval clear of zero on the same side; the opposite of a claim is contradicted, anything else undecided."""
    if len(per_seed) >= 3 and min(per_seed) > 0 and interval[0] > 0:
        return "confirmed"
    if len(per_seed) >= 3 and max(per_seed) < 0 and interval[1] < 0:
        return "contradicted"
    return "undecided"
