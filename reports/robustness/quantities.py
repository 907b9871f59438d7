"""Numbers that carry their intervals along.

A quantity is an array (seeds, metrics, 1 + B): the number itself, then what it is in each of B
resamples of the images. The images are drawn once for all conditions, strategies and seeds, so sums,
means, ratios and differences of quantities are quantities.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from benchmark.evaluation import bootstrap, metrics

Quantity = np.ndarray
"""float64 (seeds, metrics, 1 + B)."""


def quantities(
    tables: Sequence[pd.DataFrame], names: Sequence[str], resamples: int = bootstrap.RESAMPLES
) -> np.ndarray:
    """Return metrics of N tables about the same images: float64 (N, metrics, 1 + resamples).

    Args:
        names: of the metrics, which every table has recorded.
    """
    each = [metrics.compute(table) for table in tables]
    numbers = np.array([[its[name] for name in names] for its in each])
    drawn = bootstrap.resampled(tables, resamples, names).transpose(0, 2, 1)
    if tables[0]["image_id"].nunique() < 2:  # one image alone has no interval
        drawn = np.full_like(drawn, np.nan)
    return np.concatenate([numbers[..., None], drawn], axis=-1)


def mean_of(conditions: Sequence[Quantity]) -> Quantity:
    """Return the mean over conditions."""
    return np.mean(conditions, axis=0)


def ratio(top: Quantity, bottom: Quantity) -> Quantity:
    """Return top / bottom, NaN where there is nothing to divide by."""
    undefined = np.full(np.broadcast(top, bottom).shape, np.nan)
    return np.divide(top, bottom, out=undefined, where=bottom > 0)


def error_ratio(
    own: Mapping[str, Quantity],
    reference: Mapping[str, Quantity],
    by_corruption: Mapping[str, Sequence[str]],
    relative: bool,
) -> Quantity:
    """Return the mean over corruptions of summed errors divided by the reference's.

    An error is 1 - score; a relative one is what the score lost against the clean split (Hendrycks
    and Dietterich, 2019). It is NaN where the reference lost nothing.

    Args:
        by_corruption: corruption -> its conditions.
    """

    def lost(found: Mapping[str, Quantity], name: str) -> Quantity:
        return (found["clean"] if relative else 1.0) - found[name]

    ratios = []
    for names in by_corruption.values():
        top, bottom = (
            np.sum([lost(found, name) for name in names], axis=0) for found in (own, reference)
        )
        ratios.append(ratio(top, bottom))
    return np.mean(ratios, axis=0)
