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
from reports import labels
from reports.collected import Collected, Run
from reports.compare import Setting, settings

CLEAN = "clean"
WORDS = str(CoveredWords())
COMMON_CONDITIONS = len(corruptions.sets()["common"]) * len(corruptions.SEVERITIES)

Records = Mapping[str, Mapping[int, Mapping[str, pd.DataFrame]]]
"""Strategy -> seed -> condition ("clean" too) -> records."""
Strategies = Mapping[str, Mapping[int, Run]]
"""Strategy -> seed -> run."""


@dataclasses.dataclass(frozen=True)
class Results:
    """Runs of one setting on one split, under the conditions that all of them were evaluated under.

    Attributes:
        group: the plan that they are of.
        setting: the runs.
        split: of their data set.
        records: of the runs that enter. A strategy is compared with the reference on the seeds that
            both have, so it enters with these alone, or with all of its seeds if there are none.
        missing: conditions that some run has no records of.
        without: keys of runs that have no records under any condition. None of them enters, so that
            they take no condition from the others.
        left_out: ids of images that some corruption cannot take. No record is of them, the clean
            ones included, so that all numbers are of the same images.
    """

    group: Group
    setting: Setting
    split: str
    records: Records
    missing: tuple[str, ...]
    without: tuple[str, ...] = ()
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
        """Return the runs that are compared, each with its partner of the strategy `reference`.

        A strategy may have no run that was evaluated.
        """
        partners = self.setting.strategies.get(reference, {})
        return [
            (run, partners[seed])
            for label, by_seed in self.setting.strategies.items()
            for seed, run in by_seed.items()
            if label != reference and seed in self.records.get(label, {}) and seed in partners
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
        for split in (split for split in splits if split in setting.splits):
            evaluated = evaluated_runs(setting, runs, split, texts)
            names = shared_conditions(evaluated, runs, split)
            records, left_out = _on_same_images(
                {
                    label: {
                        seed: _records(run, runs, split, [text for text in texts if text in names])
                        for seed, run in by_seed.items()
                    }
                    for label, by_seed in _paired(evaluated).items()
                }
            )
            missing = tuple(text for text in texts if text not in names)
            without = tuple(sorted(_keys(setting.strategies) - _keys(evaluated)))
            gathered.append(
                Results(collected.group, setting, split, records, missing, without, left_out)
            )
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


def evaluated_runs(
    setting: Setting, runs: Path, split: str, texts: Sequence[str] | None = None
) -> Strategies:
    """Return the runs of a setting that were evaluated under conditions, or all if none was.

    Args:
        setting: the runs.
        runs: folder of the run directories.
        split: of their data set.
        texts: the conditions, of which one is enough [any].
    """
    chosen: Strategies = {}
    for label, by_seed in setting.strategies.items():
        for seed, run in by_seed.items():
            done = finished_conditions(RunDir(runs / run.key), split)
            if any(texts is None or name in texts for name in done):
                chosen.setdefault(label, {})[seed] = run
    return chosen or setting.strategies


def shared_conditions(strategies: Strategies, runs: Path, split: str) -> list[str]:
    """Return the conditions that runs were all evaluated under on a split."""
    done = [finished_conditions(RunDir(runs / key), split) for key in sorted(_keys(strategies))]
    return [name for name in done[0] if all(name in its for its in done)]


def _keys(strategies: Strategies) -> set[str]:
    return {run.key for by_seed in strategies.values() for run in by_seed.values()}


def _paired(strategies: Strategies) -> Strategies:
    """Return the runs that enter: of each strategy those with a partner, or all if none has one."""
    partners = strategies.get(labels.reference(), {})
    return {
        label: {seed: run for seed, run in by_seed.items() if seed in partners} or by_seed
        for label, by_seed in strategies.items()
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
