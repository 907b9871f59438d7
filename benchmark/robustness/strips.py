"""A strip shows one image at every severity of a corruption, with several runs' masks.

All masks are of one expression. They were stored when the runs were evaluated, so no network runs
here. The images are corrupted again, which gives the same pixels. The result is plain data, which a
report draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.base.errors import UserError
from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref
from benchmark.evaluation import masks
from benchmark.robustness import corruptions
from benchmark.robustness.results import masks_path, read_masks
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a strip is to show.

    Attributes:
        name: of its file.
        title: stands above it.
        keys: what the strip calls a run -> its key.
        split: name of the split of the expression, as the runs report it.
        corruption: name of the corruption.
        severities: under which all runs have masks, in order.
        sent_id: of the expression.
    """

    name: str
    title: str
    keys: Mapping[str, str]
    split: str
    corruption: str
    severities: Sequence[int]
    sent_id: int


@dataclasses.dataclass(frozen=True)
class Strip:
    """What a strip shows.

    Attributes:
        wanted: what it was to show.
        sentence: the expression.
        images: severity, with 0 for clean -> RGB, uint8 (height, width, 3).
        truth: uint8 (height, width) in {0, 1}.
        masks: run -> severity -> bool (height, width).
        ious: run -> severity -> IoU, a fraction.
    """

    wanted: Wanted
    sentence: str
    images: Mapping[int, np.ndarray]
    truth: np.ndarray
    masks: Mapping[str, Mapping[int, np.ndarray]]
    ious: Mapping[str, Mapping[int, float]]


def has_masks(run: RunDir, split: str, conditions: Sequence[str]) -> bool:
    """Return whether the masks of a run are stored, on the clean split and under conditions."""
    paths = [masks_path(run, split, condition) for condition in conditions]
    return all(path.exists() for path in (run.masks_path(split), *paths))


def strip(wanted: Wanted, runs: Path, opened: Callable[[RunDir], Opened]) -> Strip:
    """Return one strip.

    Args:
        wanted: what it is to show.
        runs: folder of the run directories.
        opened: gives a run's data.

    Raises:
        UserError: masks are missing or damaged, or the data are not where they were.
    """
    by_label = {label: RunDir(runs / key) for label, key in wanted.keys.items()}
    run = next(iter(by_label.values()))
    dataset, own_name = opened(run).split(run.any_spec(), wanted.split)
    ref, sentence = _expression(dataset, own_name, wanted.sent_id)
    original = dataset.image(ref.image_id)
    truth = dataset.target(ref)
    images = {0: original}
    for severity in wanted.severities:
        images[severity] = corruptions.corrupt(original, wanted.corruption, severity, ref.image_id)
    shown = {
        label: {severity: _mask(run, wanted, severity) for severity in images}
        for label, run in by_label.items()
    }
    ious = {
        label: {severity: _iou(mask, truth) for severity, mask in by_severity.items()}
        for label, by_severity in shown.items()
    }
    return Strip(wanted, sentence, images, truth, shown, ious)


def _expression(dataset: ReferDataset, split: str, sent_id: int) -> tuple[Ref, str]:
    """Return the ref and the text of an expression."""
    return next(
        (ref, sentence.sent)
        for ref in dataset.refs_of(split)
        for sentence in ref.sentences
        if sentence.sent_id == sent_id
    )


def _mask(run: RunDir, wanted: Wanted, severity: int) -> np.ndarray:
    """Return the stored mask of a run at a severity, with 0 for the clean image."""
    table: pd.DataFrame
    if severity:
        table = read_masks(run, wanted.split, f"{wanted.corruption}-{severity}")
        remedy = (
            f"delete its folder robustness/{wanted.split}, and start `risbench robustness` again"
        )
    else:
        table = run.masks(wanted.split, [wanted.sent_id])
        remedy = f"delete {run.masks_path(wanted.split)}, and make it again with `risbench predict"
        remedy += f" {run.key} --split {wanted.split}`"
    try:
        return masks.decode(masks.codes(table)[wanted.sent_id])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"the stored masks of run {run.key} are damaged ({error}): {remedy}."
        ) from None


def _iou(mask: np.ndarray, truth: np.ndarray) -> float:
    intersection, union = masks.overlap(mask, truth)
    return intersection / union if union else 0.0
