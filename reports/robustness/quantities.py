"""Numbers that carry their intervals along.

A quantity is an array (seeds, metrics, 1 + B). It holds the number itself and then its value in
each of B resamples of the images. The images are drawn once for all conditions, strategies and
seeds, so sums, means, ratios and differences of quantities are quantities.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from benchmark.evaluation import bootstrap, metrics
from benchmark.evaluation.image_sums import ImageSums

Quantity = np.ndarray
"""float64 (seeds, metrics, 1 + B)."""


def quantities(
    tables: Sequence[pd.DataFrame], names: Sequence[str], resamples: int = bootstrap.RESAMPLES
) -> np.ndarray:
    """Return metrics of N tables about the same images, float64 (N, metrics, 1 + resamples).

    Args:
        tables: records.
        names: of the metrics, whose columns every table has. A table may be a part of a split that
            has no expression which a metric is about.
        resamples: number of resamples.
    """
    # With all metrics that the tables have, asking for a few of them changes no bit.
    known = {*metrics.available(*tables), *names}
    chosen = [metrics.get(name) for name in metrics.names() if name in known]
    summed = [ImageSums.of(table, chosen) for table in tables]
    numbers = np.array([[table.points[name] for name in names] for table in summed])
    drawn = bootstrap.resampled(summed, resamples, names).transpose(0, 2, 1)
    # One image alone has no interval.
    if summed[0].images < 2:
        drawn = np.full_like(drawn, np.nan)
    return np.concatenate([numbers[..., None], drawn], axis=-1)


def mean_of(conditions: Sequence[Quantity]) -> Quantity:
    """Return the mean over conditions."""
    return np.mean(conditions, axis=0)


def ratio(top: Quantity, bottom: Quantity) -> Quantity:
    """Return top / bottom, which is NaN where the bottom is not above 0."""
    undefined = np.full(np.broadcast(top, bottom).shape, np.nan)
    return np.divide(top, bottom, out=undefined, where=bottom > 0)


def error_ratio(
    own: Mapping[str, Quantity],
    reference: Mapping[str, Quantity],
    by_corruption: Mapping[str, Sequence[str]],
    relative: bool,
) -> Quantity:
    """Return the mean over corruptions of summed errors divided by the reference's.

    An error is 1 - score, and a relative error is what the score lost against the clean split
    (Hendrycks and Dietterich, 2019). The result is NaN where the reference lost nothing.

    Args:
        own: condition, also "clean" -> quantity of the runs.
        reference: the same of the run that errors are relative to.
        by_corruption: corruption -> its conditions.
        relative: whether the errors are relative ones.
    """

    def error(scores: Mapping[str, Quantity], name: str) -> Quantity:
        return (scores["clean"] if relative else 1.0) - scores[name]

    ratios = []
    for names in by_corruption.values():
        top = np.sum([error(own, name) for name in names], axis=0)
        bottom = np.sum([error(reference, name) for name in names], axis=0)
        ratios.append(ratio(top, bottom))
    return np.mean(ratios, axis=0)
