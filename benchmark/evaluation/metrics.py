"""TODO."""

import numpy as np
import pandas as pd

from benchmark.evaluation.records import COUNTS, SWAPPED

TENTHS = (5, 6, 7, 8, 9)  # the X of P@X, in tenths
METRICS = ("oiou", "miou", *(f"p_{tenths}0" for tenths in TENTHS), "grounding_gap")
OIOU, MIOU = METRICS.index("oiou"), METRICS.index("miou")


def iou(records: pd.DataFrame) -> np.ndarray:
    """Return the IoU of every expression, float64 (rows,), in the order of the rows; 0 where U = 0."""
    return _iou(records, COUNTS)


def metrics(records: pd.DataFrame) -> dict[str, float]:
    """Return every one of `METRICS`, as fractions."""
    return dict(zip(METRICS, _ratios(_terms(_sorted(records)).sum(axis=0)).tolist(), strict=True))


def _sorted(records: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in the order of sent_id: sums of the same rows are then the same to the last bit."""
    return records.sort_values("sent_id")


def _iou(records: pd.DataFrame, columns: tuple[str, str]) -> np.ndarray:
    """Return I / U of two columns, 0 where U = 0 and NaN where the counts are missing."""
    intersection, union = (records[name].to_numpy(np.float64, na_value=np.nan) for name in columns)
    return np.divide(intersection, union, out=np.zeros(len(records)), where=union != 0)


def _terms(records: pd.DataFrame) -> np.ndarray:
    """Return what each expression adds to numerator and denominator, (rows, 2, metrics)."""
    intersection, union = (records[name].to_numpy(np.int64) for name in COUNTS)
    own, swapped = iou(records), _iou(records, SWAPPED)
    has_swap = ~np.isnan(swapped)
    # Whole numbers, because 7 / 10 >= 0.7 is a matter of rounding.
    hits = [(10 * intersection >= tenths * union) & (union > 0) for tenths in TENTHS]
    top = [intersection, own, *hits, np.where(has_swap, own - swapped, 0)]
    bottom = [union, *[np.ones(len(records))] * (1 + len(TENTHS)), has_swap]
    return np.stack([np.stack(top, axis=1), np.stack(bottom, axis=1)], axis=1).astype(np.float64)


def _ratios(sums: np.ndarray) -> np.ndarray:
    """Return the metrics (..., metrics) of summed terms (..., 2, metrics)."""
    top, bottom = sums[..., 0, :], sums[..., 1, :]
    values = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    values[..., OIOU][(bottom[..., OIOU] == 0) & (bottom[..., MIOU] > 0)] = 0  # expressions, but not one pixel
    return values
