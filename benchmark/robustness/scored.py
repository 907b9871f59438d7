"""Scores masks that were predicted elsewhere for corrupted pictures, as results of their run."""

import dataclasses
from collections.abc import Callable

import pandas as pd

from benchmark.base.errors import UserError
from benchmark.base.texts import say
from benchmark.data.refer import ReferDataset
from benchmark.evaluation.predicted_masks import PredictedMasks, score
from benchmark.evaluation.records import Prediction
from benchmark.evaluation.scored_runs import scored_before
from benchmark.robustness.corruptions import CORRUPTIONS, Condition
from benchmark.robustness.results import (
    examples,
    read_results,
    results_path,
    summarize,
    write_masks,
    write_results,
)
from benchmark.runs.rundir import RunDir


@dataclasses.dataclass(frozen=True)
class UnderCondition:
    """What predictions score under a condition.

    Attributes:
        records: one row per expression.
        is_new: whether they were scored now. Otherwise the same masks had been scored before.
    """

    records: pd.DataFrame
    is_new: bool


def parse_corruption(text: str) -> Condition:
    """Return the condition of a text such as `fog/3`, or `fog-3` as files are called.

    Raises:
        UserError: it names none. The message lists the nearest names.
    """
    return Condition.parse(text.replace("/", "-"))


def too_small(dataset: ReferDataset, split: str, condition: Condition) -> frozenset[int]:
    """Return the ids of the images of a split that a corruption cannot take."""
    smallest = CORRUPTIONS.get(condition.corruption).smallest
    infos = {dataset.info(ref.image_id) for ref in dataset.refs_of(split)}
    return frozenset(info.image_id for info in infos if min(info.height, info.width) < smallest)


def check_clean(run: RunDir, split: str) -> None:
    """Check that predictions of a split without a condition are scored, beside which these stand.

    Raises:
        UserError: they are not.
    """
    spec = scored_before(run)
    if spec is None or split not in spec.splits:
        raise UserError(
            f"the masks of {split} on the pictures as they are come first: score them under the"
            " same --name, --seed and --as without --condition."
        )


def score_condition(
    run: RunDir,
    dataset: ReferDataset,
    split: str,
    condition: Condition,
    predicted: PredictedMasks,
    on_image: Callable[[Prediction], None] = lambda prediction: None,
) -> UnderCondition:
    """Score the masks of corrupted pictures, and keep their records with the run.

    Args:
        run: of the predictions, whose masks of the split are scored already.
        dataset: holds the ground truth.
        split: name of the split.
        condition: what was done to the pictures.
        predicted: the masks, without those of images that the corruption cannot take.
        on_image: is called with the masks of every image, for progress.

    Raises:
        UserError: masks of the split without a condition are not scored yet, other masks were
            scored under this condition, or the folder cannot be written.
    """
    check_clean(run, split)
    records = score(dataset, split, predicted, on_image)
    if results_path(run, split, condition).exists():
        before = read_results(run, split, condition)
        if not before.equals(records):
            raise UserError(
                f"other masks are scored under {condition} already, in"
                f" {results_path(run, split, condition)}: delete this file to score these."
            )
        return UnderCondition(records, False)
    records.attrs["missing"] = len(predicted.missing)
    chosen = examples(dataset, split)
    table = predicted.table()
    with run.claim(say):
        write_masks(run, split, condition, table[table["sent_id"].isin(chosen)])
        write_results(run, split, condition, records, predicted.left_out)
        summarize(run, split)
    return UnderCondition(records, True)
