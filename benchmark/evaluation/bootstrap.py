"""From records to intervals and paired differences: one bootstrap by image for every metric.

Images are resampled with all their expressions, because the expressions of one image are not
independent. What is resampled says how much the choice of test images matters. `verdict` joins it
with what the seeds say. Values are fractions, as in `metrics`.
"""

import dataclasses
import functools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.base.errors import UserError
from benchmark.base.rng import generator
from benchmark.evaluation import metrics
from benchmark.evaluation.image_sums import ImageSums, same_expressions
from benchmark.evaluation.verdict import Estimate

RESAMPLES = 2000
CONFIDENCE = 0.95
WEIGHTS_AT_ONCE = 2**22  # entries of the (resamples, images) weights held in memory: 32 MiB
WEIGHTS_KEPT = 2**24  # entries of weights that are kept for the next call: 32 MiB
METRICS_AT_ONCE = 8  # metrics of one matrix product


class Interval(NamedTuple):
    """The 95 % bootstrap interval of one number. Both ends are NaN where there is none."""

    low: float
    high: float


class Spread(NamedTuple):
    """What several seeds gave.

    Attributes:
        mean: over the seeds.
        deviation: sample standard deviation (ddof = 1), or None for a single seed.
        seeds: number of seeds.
    """

    mean: float
    deviation: float | None
    seeds: int


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean over seeds: of a metric, or of a strategy's differences to its reference in one.

    Attributes:
        value: mean of the values of all seeds.
        per_seed: seed -> value.
        estimate: of the mean over seeds, with the deviation between seeds and the standard error
            from the images.
        over_images: percentile interval of the mean, images resampled alone.
        undefined: number of resamples in which the mean does not exist, since no drawn image has
            what it is about. Interval and standard error are over the others.
    """

    value: float
    per_seed: dict[int, float]
    estimate: Estimate
    over_images: Interval
    undefined: int = 0

    @property
    def interval(self) -> Interval:
        """The 95 % interval: over seeds and images, or over images alone for a single seed."""
        if self.estimate.pairs == 1:
            return self.over_images
        width = self.estimate.half_width()
        return Interval(self.value - width, self.value + width)

    @property
    def half_width(self) -> float:
        """Half of the interval's length, NaN where there is none."""
        return (self.interval.high - self.interval.low) / 2


# --- intervals and differences --------------------------------------------------------------------


def intervals(
    *seeds: pd.DataFrame | ImageSums,
    resamples: int = RESAMPLES,
    names: Sequence[str] | None = None,
) -> dict[str, Interval]:
    """Return metric -> its 95 % percentile interval.

    With several tables, the records of several seeds on the same expressions, it is the interval of
    the mean over the seeds. One image alone has no interval.

    Args:
        seeds: records or their sums, one table per seed.
        resamples: number of resamples.
        names: metrics. By default they are all that every table has the columns for.

    Raises:
        UserError: the tables are not about the same expressions, or a named metric is not recorded.
    """
    found = means(dict(enumerate(seeds)), resamples, names)
    return {name: its.over_images for name, its in found.items()}


def means(
    seeds: Mapping[int, pd.DataFrame | ImageSums],
    resamples: int = RESAMPLES,
    names: Sequence[str] | None = None,
) -> dict[str, Mean]:
    """Return metric -> its mean over seeds, and how sure it is.

    Args:
        seeds: seed -> records or their sums.
        resamples: number of resamples.
        names: metrics. By default they are all that every table has the columns for.

    Raises:
        UserError: the tables are not about the same expressions, or a named metric is not recorded.
    """
    tables = {f"table {seed}": table for seed, table in seeds.items()}
    summed = tuple(same_expressions(tables).values())
    return dict(_means(tuple(seeds), summed, resamples, tuple(_recorded(names, summed))))


@functools.lru_cache(maxsize=4096)
def _means(
    seeds: tuple[int, ...], summed: tuple[ImageSums, ...], resamples: int, names: tuple[str, ...]
) -> dict[str, Mean]:
    drawn = resampled(summed, resamples, names).mean(axis=0)  # (resamples, metrics)
    # Resampling one image says nothing.
    if summed[0].images < 2:
        drawn[:] = np.nan
    return {
        name: mean(
            {seed: table.points[name] for seed, table in zip(seeds, summed, strict=True)},
            drawn[:, number],
        )
        for number, name in enumerate(names)
    }


def paired_differences(
    reference: Mapping[int, pd.DataFrame | ImageSums],
    other: Mapping[int, pd.DataFrame | ImageSums],
    resamples: int = RESAMPLES,
    names: Sequence[str] | None = None,
) -> dict[str, Mean]:
    """Return metric -> other minus reference, paired on the same expressions and per seed.

    A resample draws the images once and uses them for all seeds of both strategies. Its difference
    is the mean over seeds of each pair's difference. For metrics that are means over expressions,
    this resamples the images' seed means.

    Args:
        reference: seed -> records, or their sums, of the strategy that the other is compared with.
        other: seed -> records, or their sums, of the other strategy.
        resamples: number of resamples.
        names: metrics. By default they are all that every table has the columns for.

    Raises:
        UserError: the strategies have not the same seeds, the records are not about the same
            expressions, or a named metric is not recorded.
    """
    if reference.keys() != other.keys() or not reference:
        raise UserError(
            f"strategies are compared seed by seed, but the reference has {_seeds(reference)} and"
            f" the other {_seeds(other)}: run the missing ones."
        )
    seeds = sorted(reference)
    strategies = {"the reference": reference, "the other": other}
    tables = {
        f"{strategy}, seed {seed}": runs[seed]
        for strategy, runs in strategies.items()
        for seed in seeds
    }
    summed = tuple(same_expressions(tables).values())
    names = tuple(_recorded(names, summed))
    return dict(_paired(tuple(seeds), summed, resamples, names))


# A report and the claims beside it ask for the same comparisons.
@functools.lru_cache(maxsize=4096)
def _paired(
    seeds: tuple[int, ...], summed: tuple[ImageSums, ...], resamples: int, names: tuple[str, ...]
) -> dict[str, Mean]:
    """Return metric -> difference. The tables of the reference stand before those of the other."""
    points = np.array([[table.points[name] for name in names] for table in summed])
    per_seed = points[len(seeds) :] - points[: len(seeds)]  # (seeds, metrics)
    drawn = resampled(summed, resamples, names)
    between = (drawn[len(seeds) :] - drawn[: len(seeds)]).mean(axis=0)  # (resamples, metrics)
    # Resampling one image says nothing.
    if summed[0].images < 2:
        between[:] = np.nan
    differences = {}
    for number, name in enumerate(names):
        each = dict(zip(seeds, per_seed[:, number].tolist(), strict=True))
        differences[name] = mean(each, between[:, number])
    return differences


def mean(per_seed: Mapping[int, float], drawn: np.ndarray) -> Mean:
    """Return a mean from the value at every seed and from resamples of the mean.

    Args:
        per_seed: seed -> value.
        drawn: the mean over seeds in every resample of the images, float64 (resamples,).
    """
    each = [*per_seed.values()]
    return Mean(
        value=float(np.mean(each)),
        per_seed=dict(per_seed),
        estimate=Estimate.of(each, standard_error(drawn)),
        over_images=percentile_interval(drawn),
        undefined=undefined(drawn),
    )


def _seeds(runs: Mapping[int, object]) -> str:
    return f"seeds {', '.join(map(str, sorted(runs)))}" if runs else "none"


def _recorded(names: Sequence[str] | None, tables: Sequence[ImageSums]) -> list[str]:
    """Return the named metrics, or all of which every table has the columns."""
    others = [{*table.points} for table in tables[1:]]
    available = [name for name in tables[0].points if all(name in other for other in others)]
    if missing := [name for name in names or () if name not in available]:
        metric = metrics.get(missing[0])
        if metric.applies:
            raise UserError(
                f"{metric.heading} is not defined here, since no expression is one that it is"
                " about: name another metric."
            )
        raise UserError(
            f"{metric.heading} is not recorded here: the records lack a column of"
            f" {' and '.join([*metric.needs, *metric.adds])}: evaluate the runs again."
        )
    return available if names is None else [*names]


# --- resampling images ----------------------------------------------------------------------------


def resampled(
    runs: Sequence[ImageSums], resamples: int = RESAMPLES, names: Sequence[str] | None = None
) -> np.ndarray:
    """Return the metrics of every resample, float64 (runs, resamples, metrics).

    In each resample all runs see the same images, and an image that is drawn brings all its rows
    of every table.

    Args:
        runs: sums of tables about the same images, one per run.
        resamples: number of resamples.
        names: metrics. By default they are all that every table has the columns for.

    Raises:
        UserError: a named metric is not recorded.
    """
    names = _recorded(names, runs)
    # The columns of a product are always those of all common metrics, so that asking for a few
    # of them changes no bit.
    common = _recorded(None, runs)
    blocks = _blocks(np.stack([run.named(common) for run in runs]))
    totals: list[list[np.ndarray]] = [[] for _ in blocks]
    for weights in _weights(blocks[0].shape[1], resamples):
        for block, parts in zip(blocks, totals, strict=True):
            parts.append(weights @ block)
    sums = [np.concatenate(parts, axis=1) for parts in totals]
    shape = (len(runs), resamples, 2, METRICS_AT_ONCE)
    together = np.concatenate([part.reshape(shape) for part in sums], axis=-1)
    by_name = {metric.name: metric for metric in runs[0].metrics}
    values = metrics.ratios(together[..., : len(common)], [by_name[name] for name in common])
    return values[..., [common.index(name) for name in names]]


def _blocks(sums: np.ndarray) -> list[np.ndarray]:
    """Return sums (runs, images, 2, metrics) as blocks (runs, images, 2 * METRICS_AT_ONCE).

    The order in which a matrix product adds depends on how many columns it has. In blocks of one
    width, the last one filled with zeros, a further metric changes no bit of those before it.
    """
    *shape, count = sums.shape
    filled = np.pad(sums, [(0, 0)] * len(shape) + [(0, -count % METRICS_AT_ONCE)])
    starts = range(0, filled.shape[-1], METRICS_AT_ONCE)
    return [
        filled[..., start : start + METRICS_AT_ONCE].reshape(*shape[:2], -1) for start in starts
    ]


def _weights(images: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield how often each image was drawn, float64 (some resamples, images).

    The weights are the same in every call.
    """
    # Those of the usual sizes are kept, since a report asks for them once a comparison.
    drawn = _kept_weights if images * resamples <= WEIGHTS_KEPT else _drawn_weights
    for often in drawn(images, resamples):
        yield often.astype(np.float64)


@functools.lru_cache(maxsize=16)
def _kept_weights(images: int, resamples: int) -> list[np.ndarray]:
    return [*_drawn_weights(images, resamples)]


def _drawn_weights(images: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield how often each image was drawn, as small whole numbers (some resamples, images)."""
    rng = generator("bootstrap")
    at_once = max(1, WEIGHTS_AT_ONCE // images)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = rng.integers(images, size=(count, images)) + images * np.arange(count)[:, None]
        often = np.bincount(drawn.ravel(), minlength=count * images).reshape(count, images)
        yield often.astype(np.uint16 if images < 2**16 else np.uint32)


def undefined(drawn: np.ndarray) -> int:
    """Return the number of resamples (N,) in which the number does not exist."""
    return int(np.isnan(drawn).sum())


def percentile_interval(drawn: np.ndarray) -> Interval:
    """Return the interval over the resamples (N,) in which the number exists."""
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        return Interval(np.nan, np.nan)
    tail = (1 - CONFIDENCE) / 2
    return Interval(*np.quantile(defined, (tail, 1 - tail)).tolist())


def standard_error(drawn: np.ndarray) -> float:
    """Return the standard deviation (ddof = 1) of the resamples (N,) in which the number exists."""
    defined = drawn[~np.isnan(drawn)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else np.nan


# --- seeds ----------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> Spread:
    """Return mean and spread over seeds.

    Raises:
        statistics.StatisticsError: there is no value.
    """
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, len(values))
