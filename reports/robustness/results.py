"""The records that the report is made from.

They are of the runs of one setting, under the conditions that all of them have.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark.base.errors import UserError
from benchmark.evaluation import metrics
from benchmark.robustness import corruptions
from benchmark.robustness.conditions import Condition
from benchmark.robustness.covered_words import CoveredWords, read_covered
from benchmark.robustness.results import finished_conditions, read_results, results_path
from benchmark.runs.groups import Group
from benchmark.runs.rundir import RunDir
from reports.collected import Collected, Run
from reports.compare import Setting, settings

CLEAN = "clean"
WORDS = str(CoveredWords())
COMMON_CONDITIONS = len(corruptions.sets()["common"]) * len(corruptions.SEVERITIES)

Records = Mapping[str, Mapping[int, Mapping[str, pd.DataFrame]]]
"""Strategy -> seed -> condition ("clean" too) -> records."""


@dataclasses.dataclass(frozen=True)
class Results:
    """Runs of one setting on one split, under the conditions that all of them were evaluated under.

    Attributes:
        group: the plan that they are of.
        setting: the runs.
        split: of their data set.
        records: of the seeds that enter. They are those that all strategies have, if there are any.
        missing: conditions that some run has no records of.
        left_out: ids of images that some corruption cannot take. No record is of them, the clean
            ones included, so that all numbers are of the same images.
    """

    group: Group
    setting: Setting
    split: str
    records: Records
    missing: tuple[str, ...]
    left_out: tuple[int, ...] = ()

    @property
    def conditions(self) -> list[str]:
        """The conditions, without "clean"."""
        first = next(iter(next(iter(self.records.values())).values()))
        return [name for name in first if name != CLEAN]

    @property
    def metrics(self) -> list[str]:
        """The judged metrics that all records have."""
        tables = [
            records
            for by_seed in self.records.values()
            for by_condition in by_seed.values()
            for records in by_condition.values()
        ]
        available = metrics.available(*tables)
        return [metric.name for metric in metrics.judged() if metric.name in available]

    def pairs(self, reference: str) -> list[tuple[Run, Run]]:
        """Return the runs that are compared, each with its partner of the strategy `reference`."""
        partners = self.setting.strategies.get(reference, {})
        return [
            (run, partners[seed])
            for label, by_seed in self.setting.strategies.items()
            for seed, run in by_seed.items()
            if label != reference and seed in self.records[label] and seed in partners
        ]

    def is_whole(self) -> bool:
        """Return whether mPC is over all common corruptions at all severities."""
        common = corruptions.sets()["common"]
        shown = [name for name in self.conditions if corruption_of(name) in common]
        return len(shown) == COMMON_CONDITIONS


def corruption_of(condition: str) -> str:
    """Return the corruption of a condition, such as `fog` of `fog-3`, or "" if it has none."""
    name = condition.rpartition("-")[0]
    return name if name in corruptions.sets()["all"] else ""


def gather(
    collected: Collected, runs: Path, splits: Sequence[str], conditions: Sequence[Condition]
) -> list[Results]:
    """Return the records of finished runs under conditions, per setting and split that has any.

    Args:
        collected: the finished runs.
        runs: folder of the run directories.
        splits: names of splits.
        conditions: what happened to the images and sentences.

    Raises:
        UserError: no run was evaluated under these conditions, or records under one of them are
            not about the expressions of the clean ones.
    """
    gathered = []
    texts = [str(condition) for condition in conditions]
    for setting in _named_apart(settings(collected)):
        every = [run for by_seed in setting.strategies.values() for run in by_seed.values()]
        for split in (split for split in splits if split in setting.splits):
            finished = [{*finished_conditions(RunDir(runs / run.key), split)} for run in every]
            names = [text for text in texts if all(text in each for each in finished)]
            records = {
                label: {seed: _records(run, runs, split, names) for seed, run in by_seed.items()}
                for label, by_seed in _paired(setting).items()
            }
            missing = tuple(text for text in texts if text not in names)
            records, left_out = _on_same_images(records)
            gathered.append(Results(collected.group, setting, split, records, missing, left_out))
    if conditions and not any(results.conditions for results in gathered):
        raise UserError(
            f"no run of these in {runs} was evaluated under these conditions on"
            f" {', '.join(splits)}: start `risbench robustness`."
        )
    return gathered


def _named_apart(every: Sequence[Setting]) -> list[Setting]:
    """Return the settings, with the way of splitting in the name of a data set that is split twice.

    RefCOCOg's val holds other images when it is split by umd than when it is split by google.
    """
    sets = {(setting.columns["dataset"], setting.columns["split_by"]) for setting in every}
    named = []
    for setting in every:
        name = setting.columns["dataset"]
        if sum(other == name for other, _ in sets) > 1:
            columns = {**setting.columns, "dataset": f"{name}-{setting.columns['split_by']}"}
            setting = dataclasses.replace(setting, columns=columns)
        named.append(setting)
    return named


def _paired(setting: Setting) -> dict[str, dict[int, Run]]:
    """Return strategy -> seed -> run, with the seeds that all strategies have, if there are any."""
    common = set.intersection(*(set(by_seed) for by_seed in setting.strategies.values()))
    return {
        label: {seed: run for seed, run in by_seed.items() if not common or seed in common}
        for label, by_seed in setting.strategies.items()
    }


def _on_same_images(records: Records) -> tuple[Records, tuple[int, ...]]:
    """Return records without the images that some corruption could not take, and their ids."""
    left_out = {
        image_id
        for by_seed in records.values()
        for by_condition in by_seed.values()
        for table in by_condition.values()
        for image_id in table.attrs.get("left_out", ())
    }
    if not left_out:
        return records, ()
    same = {
        label: {
            seed: {
                name: table[~table["image_id"].isin(left_out)].reset_index(drop=True)
                for name, table in by_condition.items()
            }
            for seed, by_condition in by_seed.items()
        }
        for label, by_seed in records.items()
    }
    return same, tuple(sorted(left_out))


def _records(run: Run, runs: Path, split: str, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return condition -> records of a run."""
    directory = RunDir(runs / run.key)
    clean = directory.records(split)
    by_condition = {CLEAN: clean}
    for name in names:
        records = read_results(directory, split, name)
        if name == WORDS:
            records = read_covered(records)
        taken = clean[~clean["image_id"].isin(records.attrs.get("left_out", ()))]
        if set(records["sent_id"]) != set(taken["sent_id"]):
            raise UserError(
                f"{results_path(directory, split, name)} is not about the expressions of the run's"
                " records: delete it and start `risbench robustness` again."
            )
        by_condition[name] = records
    return by_condition
