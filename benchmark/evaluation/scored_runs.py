"""Keeps what masks that were made elsewhere score, in a run directory like any run's.

    runs/<key>/spec.yaml                  what they are (see `runs.predictions`)
               records/<split>.parquet    as of any run
               masks/<split>.parquet      the masks themselves
               result.json, environment.json, status.json, files.json

Nothing here needs torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.base.errors import UserError
from benchmark.base.texts import say
from benchmark.data.refer import ReferDataset
from benchmark.evaluation import metrics
from benchmark.evaluation.predicted_masks import PredictedMasks, score
from benchmark.evaluation.records import Prediction, canonical, validate_records
from benchmark.runs import integrity
from benchmark.runs.environment import machine, places_of_data
from benchmark.runs.predictions import PredictionsSpec, ScoredSplit
from benchmark.runs.rundir import RunDir, all_runs

# What can change a number here. No network runs.
PACKAGES = ("numpy", "pandas", "pillow", "pycocotools")
OnImage = Callable[[Prediction], None]


@dataclasses.dataclass(frozen=True)
class Scored:
    """Predictions in their run directory.

    Attributes:
        run: the directory.
        records: of the split, one row per expression.
        missing: number of expressions without a mask, which counts as empty.
        is_new: whether they were scored now. Otherwise the same masks had been scored before.
    """

    run: RunDir
    records: pd.DataFrame
    missing: int
    is_new: bool


def score_into(
    runs: Path,
    spec: PredictionsSpec,
    dataset: ReferDataset,
    split: str,
    predicted: PredictedMasks,
    on_image: OnImage = lambda prediction: None,
    environment: Mapping[str, Any] | None = None,
) -> Scored:
    """Score the masks of a split, and keep them and their records.

    Args:
        runs: folder of the run directories.
        spec: what the predictions are, without their splits. Those that were scored before stay.
        dataset: holds the ground truth.
        split: name of the split.
        predicted: its masks.
        on_image: is called with the masks of every image, for progress.
        environment: what the masks were made with [what they are scored with].

    Raises:
        UserError: other masks of this split, or other predictions of the same row, have been scored
            already, an annotation is damaged, or the folder cannot be written.
    """
    check_row(runs, spec)
    run = RunDir(runs / spec.key)
    its = ScoredSplit(
        masks_sha256=predicted.digest(),
        expressions=len(predicted.sizes),
        missing=len(predicted.missing),
    )
    if _is_there(run, scored_before(run), split, its):
        return Scored(run, run.records(split), its.missing, False)
    records = score(dataset, split, predicted, on_image)
    validate_records(records)
    where = {"data": places_of_data(dataset) | {"sha256": spec.data_sha256}}
    environment = {**(environment or machine(PACKAGES)), **where}
    run.path.mkdir(parents=True, exist_ok=True)
    with run.claim(say):
        # Another command may have scored a split of the same predictions meanwhile.
        known = scored_before(run)
        is_new = not _is_there(run, known, split, its)
        if is_new:
            whole = (known or spec).with_split(split, its)
            _keep(run, whole, split, records, predicted.table(), environment)
    return Scored(run, run.records(split), its.missing, is_new)


def _is_there(run: RunDir, known: PredictionsSpec | None, split: str, its: ScoredSplit) -> bool:
    """Return whether these masks of a split have been scored.

    Args:
        run: the directory.
        known: what was scored before, if anything was.
        split: name of the split.
        its: the masks.

    Raises:
        UserError: other masks of the split have been scored.
    """
    if known is None or split not in known.splits:
        return False
    if known.splits[split] != its:
        raise UserError(
            f"other masks of {split} are scored as '{known.name}' already, in {run.path}: give"
            " these another --name, or delete that folder."
        )
    return True


def scored_before(run: RunDir) -> PredictionsSpec | None:
    """Return the spec of predictions whose run directory is whole, or None."""
    try:
        spec = run.any_spec()
    except UserError:
        return None
    is_done = run.checked_status(integrity.PATTERNS).state == "done"
    return spec if is_done and isinstance(spec, PredictionsSpec) else None


def _keep(
    run: RunDir,
    spec: PredictionsSpec,
    split: str,
    records: pd.DataFrame,
    masks: pd.DataFrame,
    environment: dict[str, Any],
) -> None:
    """Write the records and masks of a split into the run directory of predictions.

    The caller holds the run. A kill leaves either the splits that were there before, or this one
    besides them.

    Args:
        run: the directory, which may not be there yet.
        spec: with this split among its splits.
        split: name of the split.
        records: one row per expression.
        masks: a table as `masks` describes it.
        environment: what `environment.json` says.

    Raises:
        UserError: the folder cannot be written.
    """
    is_first = len(spec.splits) == 1
    if is_first:
        # What a kill or damage has left is no list of these files.
        integrity.unseal(run.path)
        run.write_status("planned")
    run.write_records(split, records)
    run.write_masks(split, masks)
    numbers = {split: canonical(metrics.compute(run.records(split)))}
    before = {} if is_first else run.read_json("result.json")
    run.write_json("result.json", before | numbers)
    run.write_json("environment.json", environment)
    run.write_spec(spec)
    run.write_status("done")
    integrity.seal(run.path)


def check_row(runs: Path, spec: PredictionsSpec) -> None:
    """Check that no other predictions are the same row of tables with the same seed.

    Tables and claims average over seeds, so two of one seed would hide each other.

    Raises:
        UserError: some are. The message names them.
    """
    for run in all_runs(runs):
        try:
            other = run.any_spec() if run.kind == spec.kind else None
        except UserError:
            continue  # It is damaged, which other commands tell.
        if other and run.key != spec.key and _row(other) == _row(spec):
            row = str(spec.stands_for) if spec.stands_for else "this row"
            raise UserError(
                f"'{other.name}' stands for {row} on {spec.dataset} with seed {spec.seed} already"
                f" ({run.key}): give these predictions another --seed, or another --name where they"
                " have a row of their own."
            )


def _row(spec: PredictionsSpec) -> tuple[object, ...]:
    place = (spec.dataset, spec.split_by, spec.data_sha256, spec.seed)
    return *place, spec.stands_for or spec.name
