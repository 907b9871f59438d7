"""All that a loaded network scores on one split, as data for a command to print."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pandas as pd

from benchmark.base.errors import UserError
from benchmark.evaluation import bootstrap, masks, metrics, published
from benchmark.evaluation.bootstrap import Interval
from benchmark.evaluation.inference import Loaded
from benchmark.evaluation.predict import evaluate
from benchmark.evaluation.published import Measurement
from benchmark.evaluation.records import COUNTS, Prediction
from benchmark.evaluation.text_blind import TextBlindBaseline

OnImage = Callable[[Prediction], None]


@dataclasses.dataclass(frozen=True)
class SplitResults:
    """What a network scores on a split. All numbers are fractions.

    Attributes:
        records: one row per expression.
        numbers: metric -> value.
        intervals: metric -> its interval over images.
        as_published: the numbers of a published protocol, or nothing if none was named.
        counts: what these numbers are made of, one row per expression, or None.
        text_blind: mIoU without reading the sentence, or nothing if it was not measured.
    """

    records: pd.DataFrame
    numbers: dict[str, float]
    intervals: dict[str, Interval]
    as_published: dict[str, float]
    counts: pd.DataFrame | None
    text_blind: dict[str, float]


def evaluate_split(
    loaded: Loaded,
    split: str,
    *,
    protocol: str | None = None,
    text_blind: bool = False,
    on_image: OnImage = lambda prediction: None,
) -> SplitResults:
    """Return what a network scores on a split of its `dataset`.

    Args:
        loaded: the network.
        split: name of the split.
        protocol: name of a published protocol by which it is measured, too.
        text_blind: whether the text-blind baseline is measured, too.
        on_image: is called with every prediction, for progress.

    Raises:
        UserError: there is no such split or protocol, or the protocol is not for this network.
    """
    definition = loaded.method.definition
    if protocol and definition.weakly_supervised:
        raise UserError(
            f"{definition.name} was published with masks decided at the original size, which is"
            " what the suite measures: leave --protocol out."
        )
    measurement = baseline = None
    collectors = [on_image]
    if protocol:
        chosen = published.get(protocol, loaded.method.needs.geometry)
        measurement = Measurement(chosen, loaded.dataset)
        collectors.append(measurement.add)
    if text_blind:
        baseline = TextBlindBaseline(loaded.method)
        collectors.append(baseline.add)

    def collect(prediction: Prediction) -> None:
        for collector in collectors:
            collector(prediction)

    records = _records(loaded, split, 0, collect)
    return SplitResults(
        records=records,
        numbers=metrics.compute(records),
        intervals=bootstrap.intervals(records),
        as_published=measurement.numbers() if measurement else {},
        counts=measurement.records() if measurement else None,
        text_blind=baseline.numbers() if baseline else {},
    )


def noise_numbers(
    loaded: Loaded,
    split: str,
    first: pd.DataFrame,
    seeds: int,
    on_image: OnImage = lambda prediction: None,
) -> pd.DataFrame:
    """Return the metrics of a split under several draws of the method's own noise (SaG's).

    Args:
        loaded: the network.
        split: name of the split.
        first: the records of the first draw, which `evaluate_split` made.
        seeds: number of draws, the first one included.
        on_image: is called with every prediction, for progress.

    Returns:
        One row per draw and one column per metric, as fractions.
    """
    others = [_records(loaded, split, seed, on_image) for seed in range(1, seeds)]
    return pd.DataFrame([metrics.compute(records) for records in (first, *others)])


def split_masks(
    loaded: Loaded, split: str, on_image: OnImage = lambda prediction: None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the records and the masks of a split, one row per expression each.

    Args:
        loaded: the network.
        split: name of the split.
        on_image: is called with every prediction, for progress.
    """
    rows: list[dict[str, Any]] = []

    def collect(prediction: Prediction) -> None:
        rows.extend(masks.rows_of(prediction))
        on_image(prediction)

    return _records(loaded, split, 0, collect), masks.frame(rows)


def differing(one: pd.DataFrame, other: pd.DataFrame) -> int:
    """Return how many expressions have other counts of pixels in one table than in the other.

    Both tables are records of the same expressions in the same order.
    """
    counts = ["sent_id", *COUNTS]
    return int((one[counts].to_numpy() != other[counts].to_numpy()).any(axis=1).sum())


def _records(loaded: Loaded, split: str, draw_seed: int, on_image: OnImage) -> pd.DataFrame:
    return evaluate(
        loaded.method,
        loaded.dataset,
        split,
        loaded.tokenizer,
        loaded.device,
        draw_seed=draw_seed,
        on_image=on_image,
    )
