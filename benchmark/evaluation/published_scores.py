"""What the published scripts make of intersections and unions, and where a run keeps these counts.

    runs/<key>/published/<protocol>/<split>.parquet   one row per expression

Each number is a ratio of two sums over expressions, as in `metrics`, so the same bootstrap gives
its interval. `published` says how the counts come about. Reading them needs no torch.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write
from benchmark.evaluation import metrics
from benchmark.evaluation.metrics import Metric, Terms
from benchmark.runs.rundir import RunDir

COLUMNS = ("image_id", "sent_id", "intersection", "union")


def _pixels(records: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return intersection and union of every expression, in pixels, float64 (rows,) each."""
    intersection, union = (records[name].to_numpy(np.float64) for name in ("intersection", "union"))
    return intersection, union


def _soft(records: pd.DataFrame) -> np.ndarray:
    """Return I / (U + 1e-6) of every expression, float64 (rows,), as CRIS' test.py has it."""
    intersection, union = _pixels(records)
    return intersection / (union + 1e-6)


def _plain(empty: float) -> Terms:
    """Return the function that gives I / U, and `empty` where U = 0."""

    def iou(records: pd.DataFrame) -> np.ndarray:
        intersection, union = _pixels(records)
        return np.divide(intersection, union, out=np.full(len(union), empty), where=union > 0)

    return iou


def _scores(iou: Terms, thresholds: Mapping[int, float], strictly: bool) -> tuple[Metric, ...]:
    """Return mIoU and P@X of a way to compute the IoU.

    Args:
        iou: records -> IoU of every expression.
        thresholds: percent that names a threshold -> its value.
        strictly: whether an IoU must exceed the threshold. Otherwise it may equal it.
    """

    def hits(value: float) -> Terms:
        if strictly:
            return lambda records: (iou(records) > value).astype(np.float64)
        return lambda records: (iou(records) >= value).astype(np.float64)

    def changed(name: str, top: Terms) -> Metric:
        return Metric(name, metrics.get(name).heading, "As the published script has it.", top)

    precisions = (changed(f"p_{percent}", hits(value)) for percent, value in thresholds.items())
    return (changed(metrics.MIOU.name, iou), *precisions)


# The published thresholds are float32 values; 0.7 among them is a little less than 0.7.
_FLOAT32 = {percent: float(np.float32(percent / 100)) for percent in (50, 60, 70, 80, 90)}
_EXACT = {percent: percent / 100 for percent in (50, 60, 70, 80, 90)}
_THREE = {percent: percent / 100 for percent in (50, 70, 90)}

# Name of a published protocol -> the numbers that its script prints.
SCORES: Mapping[str, tuple[Metric, ...]] = {
    "cris": _scores(_soft, _FLOAT32, strictly=True),
    "lavt": (metrics.OIOU, *_scores(_plain(0.0), _EXACT, strictly=False)),
    "caris": (metrics.OIOU, *_scores(_plain(np.nan), _THREE, strictly=False)),
}


def numbers(records: pd.DataFrame, scores: tuple[Metric, ...]) -> dict[str, float]:
    """Return what a published script prints, as fractions.

    Args:
        records: with `intersection` and `union`.
        scores: the numbers of its protocol.
    """
    return metrics.values(metrics.terms(records, scores), scores)


# --- in a run directory ---------------------------------------------------------------------------


def counts_path(run: RunDir, protocol: str, split: str) -> Path:
    """Return where the counts of a run by a published protocol lie."""
    return run.path / "published" / protocol / f"{split}.parquet"


def write_counts(
    run: RunDir, protocol: str, split: str, counts: pd.DataFrame, records: pd.DataFrame
) -> None:
    """Write the counts of a run by a published protocol.

    Args:
        run: the run.
        protocol: name of the protocol.
        split: as the run reports it.
        counts: one row per expression, with `COLUMNS`.
        records: of the run on this split, which say with which weights the counts were made.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    counts.attrs["records"] = fingerprint(records)
    path = counts_path(run, protocol, split)
    atomic_write(path, lambda temporary: counts.to_parquet(temporary, index=False))


def read_counts(
    run: RunDir, protocol: str, split: str, records: pd.DataFrame
) -> pd.DataFrame | None:
    """Return the counts of a run by a published protocol, or None where it was not measured so.

    Counts that were made with other weights than the run's records count as not measured.

    Args:
        run: the run.
        protocol: name of the protocol.
        split: as the run reports it.
        records: of the run on this split.

    Raises:
        UserError: the file is damaged.
    """
    path = counts_path(run, protocol, split)
    try:
        counts = pd.read_parquet(path)
        if counts.attrs.get("records") != fingerprint(records):
            return None
        ids = ["sent_id", "image_id"]
        own = records[ids].sort_values("sent_id", ignore_index=True)
        if not counts[ids].sort_values("sent_id", ignore_index=True).equals(own):
            raise ValueError
        intersection, union = counts["intersection"], counts["union"]
        if not ((intersection >= 0) & (intersection <= union)).all():
            raise ValueError
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} is damaged: delete it and run `risbench evaluate {run.key} --split {split}"
            f" --protocol {protocol}` again."
        ) from None
    return counts


def fingerprint(records: pd.DataFrame) -> str:
    """Return a digest of what a run predicted, which other weights would change."""
    predicted = metrics.by_sentence(records)[["sent_id", "intersection", "union"]]
    return hashlib.sha256(predicted.to_numpy(np.int64).tobytes()).hexdigest()
