"""Paired differences of finished runs, which say what each strategy changes.

Numbers are averaged over seeds alone. Whatever else differs between two specs makes another row.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from benchmark.base.errors import UserError
from benchmark.evaluation import bootstrap, metrics
from benchmark.runs.comparisons import Role, planned_comparisons, role
from benchmark.runs.predictions import AnySpec
from reports import labels
from reports.collected import Collected, Run, dirty
from reports.verdicts import with_verdicts

CHECKPOINTS = "these two checkpoints"


@dataclasses.dataclass(frozen=True)
class Setting:
    """Finished runs that differ in strategy and seed alone.

    Attributes:
        columns: what their rows have in common.
        splits: reported split -> what it is to the runs, in the order of the spec.
        strategies: label -> seed -> run, the reference first.
    """

    columns: dict[str, Any]
    splits: dict[str, Role]
    strategies: dict[str, dict[int, Run]]


@functools.lru_cache(maxsize=4)  # Each table and figure of a report asks for them.
def settings(collected: Collected) -> tuple[Setting, ...]:
    """Return the finished runs by what differs besides strategy and seed."""
    # Unfinished runs take part in the names, so that these stay while a matrix fills.
    specs = {labels.setting(spec): spec for spec in collected.specs}
    suffixes = labels.setting_suffixes(specs)
    label_of = labels.label_of_strategy(collected.specs)
    ordered = labels.strategy_labels(collected.specs)
    by_setting: dict[str, dict[str, dict[int, Run]]] = {}
    for run in collected.runs:
        by_strategy = by_setting.setdefault(labels.setting(run.spec), {})
        label = label_of[labels.identity(run.spec.strategy)]
        by_strategy.setdefault(label, {})[run.spec.seed] = run
    every = []
    for text, by_strategy in by_setting.items():
        strategies = {
            label: dict(sorted(by_strategy[label].items()))
            for label in ordered
            if label in by_strategy
        }
        columns = _columns(specs[text], suffixes[text])
        roles = {split: role(specs[text], split) for split in specs[text].selection.report}
        every.append(Setting(columns, roles, strategies))
    return tuple(sorted(every, key=lambda setting: [*setting.columns.values()]))


def _columns(spec: AnySpec, suffix: str) -> dict[str, Any]:
    definition = spec.definition
    return {
        "supervision": "weak" if definition and definition.weakly_supervised else "full",
        "dataset": spec.dataset,
        "split_by": spec.split_by,
        "data_sha256": spec.data_sha256,
        "method": spec.method,
        "stage": definition.stage if definition else "",
        "variant": spec.variant,
        "settings": suffix,
    }


# --- compared -------------------------------------------------------------------------------------


def comparison(collected: Collected, against: str | None = None) -> pd.DataFrame:
    """Return one row per data set x split x method x variant x strategy x metric.

    All values are fractions unless a metric has another unit. `mean`, `deviation` (sample,
    ddof = 1) and `points` are over `seeds`. `low` and `high` bound the mean over images alone, and
    `half_width` is that of its interval over seeds and images (over images alone for one seed).

    Rows of another strategy than the reference are compared with it on the seeds that both have.
    Everything in such a row, `baseline_mean` too, is about those seeds, and the runs without a
    partner stand in `left_out`. Without a common seed the row describes its own seeds, and what
    compares is empty. Tuples hold one entry per seed, in the order of `seeds`.

    `difference_low` and `difference_high` bound the difference over seeds and images, and over
    images alone where there is a single pair. `seed_deviation` and `image_error` are what the
    interval is made of, and `p` is the two-sided p-value of no difference. `undefined` is the
    number of resamples in which the mean or the difference does not exist. `role` says what the
    split is to the runs. The columns of `verdicts.with_verdicts` follow.

    Args:
        collected: the runs.
        against: name of the strategy that the others are compared with [the reference].

    Raises:
        UserError: runs that are to be compared are not about the same expressions. The message
            names them. Or there are several strategies called `against`.
    """
    rows: list[dict[str, Any]] = []
    reference_label = labels.reference(collected.specs, against)
    for setting in settings(collected):
        reference = setting.strategies.get(reference_label, {})
        for split, its_role in setting.splits.items():
            for strategy, runs in setting.strategies.items():
                partners = {} if strategy == reference_label else reference
                of = setting.columns | {"split": split, "role": its_role, "strategy": strategy}
                rows += [of | row for row in compare(runs, partners, split)]
    family = planned_comparisons(collected.group, collected.specs, against)
    return with_verdicts(pd.DataFrame(rows), collected.group, len(family))


def compare(
    runs: Mapping[int, Run], reference: Mapping[int, Run], split: str
) -> list[dict[str, Any]]:
    """Return one row per metric of `runs` on a split, with the columns that `comparison` describes.

    Args:
        runs: seed -> run.
        reference: seed -> run that they are compared with. If it is empty, nothing is compared.
        split: name of the split.

    Raises:
        UserError: the runs are not about the same expressions. The message names them.
    """
    pairs = [seed for seed in runs if seed in reference]
    # Without a common seed the rows describe the runs' own seeds.
    seeds = pairs or list(runs)
    used = [runs[seed] for seed in seeds]
    partners = [reference[seed] for seed in pairs]
    alone = [
        run
        for by_seed in (reference, runs)
        for seed, run in by_seed.items()
        if reference and seed not in pairs
    ]
    own = {seed: runs[seed].splits[split] for seed in seeds}
    before = {seed: reference[seed].splits[split] for seed in pairs}
    with _naming([*used, *partners], split):
        means = bootstrap.means(own)
        differences = bootstrap.paired_differences(before, own) if pairs else {}
    points = [summed.points for summed in own.values()]
    points_before = [summed.points for summed in before.values()]
    rows = []
    for name in metrics.expected(name for values in points for name in values):
        values = _values(points, name)
        values_before = _values(points_before, name)
        mean, deviation = _spread(values)
        baseline_mean, baseline_deviation = _spread(values_before)
        its = means.get(name)
        low, high = its.over_images if its else (np.nan, np.nan)
        rows.append(
            {
                "metric": name,
                "seeds": tuple(seeds),
                "mean": mean,
                "deviation": deviation,
                "low": low,
                "high": high,
                "half_width": its.half_width if its else np.nan,
                "points": values,
                "baseline_mean": baseline_mean,
                "baseline_deviation": baseline_deviation,
                "baseline_points": values_before,
                **difference_columns(differences.get(name)),
                "undefined": max(
                    found[name].undefined for found in (means, differences) if name in found
                )
                if its
                else 0,
                "runs": tuple(run.key for run in used),
                "baseline_runs": tuple(run.key for run in partners),
                "left_out": tuple(run.key for run in alone),
                "selected_epochs": tuple("-" if run.epoch is None else run.epoch for run in used),
                "git_commits": tuple(run.commit for run in used),
                "git_dirty": tuple(dirty(run) for run in used),
            }
        )
    return rows


def difference_columns(difference: bootstrap.Mean | None) -> dict[str, Any]:
    """Return the columns about a difference. All are empty if there is none."""
    if difference is None:
        names = ("difference", "difference_low", "difference_high")
        numbers = dict.fromkeys((*names, "seed_deviation", "image_error", "p"), np.nan)
        return numbers | {"differences": (), "compared": ""}
    low, high = difference.interval
    return {
        "difference": difference.value,
        "difference_low": low,
        "difference_high": high,
        "seed_deviation": difference.estimate.seed_deviation,
        "image_error": difference.estimate.image_error,
        "p": difference.estimate.p_value(),
        "differences": tuple(difference.per_seed.values()),
        "compared": compared(len(difference.per_seed)),
    }


def compared(pairs: int) -> str:
    """Return what a difference is one between."""
    return CHECKPOINTS if pairs == 1 else f"{pairs} seed pairs"


def _values(points: Sequence[Mapping[str, float]], metric: str) -> tuple[float, ...]:
    """Return a metric's values of all seeds, or nothing if one of them lacks it."""
    if any(metric not in values for values in points):
        return ()
    return tuple(values[metric] for values in points)


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation, each NaN if there is none."""
    if not values:
        return np.nan, np.nan
    mean, deviation, _ = bootstrap.spread(values)
    return mean, np.nan if deviation is None else deviation


@contextmanager
def _naming(runs: list[Run], split: str) -> Iterator[None]:
    """Let an error about records name the runs that they are of."""
    try:
        yield
    except UserError as error:
        keys = ", ".join(run.key for run in runs)
        raise UserError(f"split '{split}' of {keys}: {error}") from None


def points(collected: Collected) -> pd.DataFrame:
    """Return one row per finished run and split: what the run is and all its metrics."""
    return pd.DataFrame(
        [
            setting.columns
            | {"split": split, "strategy": strategy, "seed": seed, "epoch": run.epoch}
            | {"run": run.key}
            | run.splits[split].points
            for setting in settings(collected)
            for split in setting.splits
            for strategy, runs in setting.strategies.items()
            for seed, run in runs.items()
        ]
    )
