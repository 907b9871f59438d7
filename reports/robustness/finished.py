"""All that the finished runs of a plan have under conditions, whatever command evaluated them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmark.robustness.conditions import Condition, parse_condition
from benchmark.runs.comparisons import Comparison
from reports.collected import Collected
from reports.compare import Setting, settings
from reports.robustness.results import Results, evaluated_runs, gather, shared_conditions
from reports.robustness.table import table as numbers_of


@dataclasses.dataclass(frozen=True)
class Finished:
    """What runs have under conditions.

    Attributes:
        every: their records, per setting and split.
        table: what `table.table` returns of them.
        conditions: number of conditions.
        reference: key of the run that corruption errors are relative to, or None.
    """

    every: list[Results]
    table: pd.DataFrame
    conditions: int
    reference: str | None = None


def finished(
    collected: Collected,
    runs: Path,
    family: Sequence[Comparison] = (),
    splits: Sequence[str] = (),
    reference: str | None = None,
) -> Finished | None:
    """Return what corrupted images, covered objects and covered words change, or None.

    Settings enter whose evaluated runs all have at least one condition in common. It is None where
    there is none, and no split is named.

    Args:
        collected: the finished runs.
        runs: folder of the run directories.
        family: planned comparisons. Those on the splits that are shown count for verdicts.
        splits: that enter without any condition, too, since they have language subsets.
        reference: key of the run that corruption errors are relative to [none].

    Raises:
        UserError: records under a condition are damaged, or the reference is not among the runs.
            The message names them.
    """
    every: list[Results] = []
    shared = dict.fromkeys(splits, []) | conditions_by_split(settings(collected), runs)
    for split, conditions in shared.items():
        gathered = gather(collected, runs, [split], conditions)
        every += [results for results in gathered if results.conditions or split in splits]
    if not every:
        return None
    table = numbers_of(every, reference, sum(its.split in shared for its in family))
    names = {str(condition) for conditions in shared.values() for condition in conditions}
    return Finished(every, table, len(names), reference)


def conditions_by_split(every: Sequence[Setting], runs: Path) -> dict[str, list[Condition]]:
    """Return split -> the conditions that all evaluated runs of some setting have."""
    by_split: dict[str, dict[str, None]] = {}
    for setting in every:
        for split in setting.splits:
            names = shared_conditions(evaluated_runs(setting, runs, split), runs, split)
            by_split.setdefault(split, {}).update(dict.fromkeys(names))
    return {
        split: [parse_condition(name) for name in names]
        for split, names in by_split.items()
        if names
    }
