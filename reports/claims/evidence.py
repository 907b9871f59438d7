"""What the finished runs of a folder say to claims.

A run answers a claim if its spec is the claim's own and its data are the published ones. Runs that
compare the same strategies on other data, or with a network of another size, say something about
the same comparison elsewhere, and answer no claim.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.base.errors import UserError
from benchmark.data import datasets
from benchmark.evaluation import bootstrap, metrics
from benchmark.evaluation.bootstrap import Difference
from benchmark.evaluation.published_scores import SCORES, counts_path, numbers, read_counts
from benchmark.planning import hours
from benchmark.robustness.corruptions import SEVERITIES
from benchmark.robustness.corruptions import Condition as Corrupted
from benchmark.robustness.results import finished_conditions, read_results, results_path
from benchmark.runs import splits
from benchmark.runs.rundir import RunDir, all_runs
from benchmark.runs.spec import RunSpec
from benchmark.strategies.strategy import Strategy
from reports import labels
from reports.claims.arm import SCALED, Arm, identity
from reports.claims.claims import Claim, Part, Value
from reports.collected import Run, load_run

TOLERANCE = 0.01  # share by which a set's counts may differ from the published ones

Runs = dict[int, Run]


@dataclasses.dataclass(frozen=True)
class Found:
    """What runs say to a comparison or a value.

    Attributes:
        difference: the better arm minus the other, turned so that positive is an improvement. Of a
            value it is the value itself.
        runs: keys of the runs.
    """

    difference: Difference
    runs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """The same comparison with other data or another network.

    Attributes:
        where: method, variant, data set and split.
        found: what its runs say.
    """

    where: str
    found: Found


class Evidence:
    """The finished runs of a folder that claims can use. Each is read once.

    Args:
        runs: the folder.
        claims: that are asked.
        read: finished runs of the folder that are read already.
    """

    def __init__(self, runs: Path, claims: Iterable[Claim], read: Iterable[Run] = ()) -> None:
        self.runs = runs
        arms = {arm.identity: arm for claim in claims for arm in claim.every_arm}
        asked = {arm.spec.method for arm in arms.values()}
        self._loaded: dict[str, Run] = {run.spec.key: run for run in read}
        self._differences: dict[object, Found | None] = {}
        self._own: dict[str, list[tuple[RunSpec, RunDir]]] = {}
        self._others: dict[str, list[tuple[RunSpec, RunDir]]] = {}
        for run in all_runs(runs):
            # A key begins with the name of the method, and a spec takes a while to read.
            named = any(run.key.startswith(f"{method}-") for method in asked)
            if not named:
                continue
            known = self._loaded.get(run.key)
            if known is None and run.status().state != "done":
                continue
            spec = known.spec if known else run.spec()
            name = identity(spec)
            if name in arms and _trained_on_published(spec, run):
                self._own.setdefault(name, []).append((spec, run))
            else:
                rest = labels.identity(spec, {"seed", "strategy"})
                self._others.setdefault(rest, []).append((spec, run))

    def finished(self, arm: Arm) -> list[RunDir]:
        """Return the finished runs of an arm, whatever their seed."""
        return [run for _, run in self._own.get(arm.identity, [])]

    # --- answers ----------------------------------------------------------------------------------

    def comparison(self, part: Part) -> Found | None:
        """Return what runs say to a comparison, or None where there is no pair of them."""
        key = (part.better.identity, part.than.identity, part.split, part.metric, part.corruption)
        if key not in self._differences:
            pair = (self._of(part.better, part.split), self._of(part.than, part.split))
            self._differences[key] = self._compared(*_paired(*pair), part)
        return self._differences[key]

    def value(self, value: Value) -> Found | None:
        """Return what runs have in the place of a published value, or None where there is none."""
        by_origin = self._of(value.arm, value.split)
        protocol = value.arm.protocol
        measured: dict[str, dict[str, pd.DataFrame]] = {}
        for origin, by_seed in by_origin.items():
            for seed, run in by_seed.items():
                records = run.records[value.split]
                if protocol:
                    records = self._counts(run, protocol, value.split)
                if records is not None:
                    measured.setdefault(origin, {})[seed] = records
        if not measured:
            return None
        origin = max(sorted(measured), key=lambda its: len(measured[its]))
        tables = measured[origin]
        scores = SCORES[protocol] if protocol else [metrics.get(value.metric)]
        per_seed = {
            seed: numbers(metrics.by_sentence(table), scores)[value.metric]
            for seed, table in tables.items()
        }
        place = [score.name for score in scores].index(value.metric)
        drawn = bootstrap.resampled_of([*tables.values()], scores)[..., place].mean(axis=0)
        keys = tuple(by_origin[origin][seed].spec.key for seed in tables)
        return Found(bootstrap.difference(per_seed, drawn), keys)

    def elsewhere(self, part: Part) -> list[Elsewhere]:
        """Return the same comparison with other data or networks, those with most pairs first."""
        arms = (part.better, part.than)
        if part.corruption or any(arm.is_relative for arm in arms):
            return []
        wanted = [_unscaled(arm.spec.strategy) for arm in arms]
        found = []
        for members in self._others.values():
            spec = members[0][0]
            if spec.method != part.better.spec.method or part.split not in spec.selection.report:
                continue
            both: list[Runs] = [
                {
                    its.seed: self._load(its, run)
                    for its, run in members
                    if _unscaled(its.strategy) == name
                }
                for name in wanted
            ]
            seeds = both[0].keys() & both[1].keys()
            pair = [{seed: runs[seed] for seed in sorted(seeds)} for runs in both]
            if compared := self._compared(*pair, part):
                where = f"{spec.method} {spec.variant} on {spec.dataset} {part.split}"
                found.append(Elsewhere(where, compared))
        return sorted(found, key=lambda its: (-len(its.found.difference.per_seed), its.where))

    # --- runs -------------------------------------------------------------------------------------

    def _of(self, arm: Arm, split: str) -> dict[str, Runs]:
        """Return the runs of an arm that report a split of the published size.

        Returns:
            Digests of data, vocabulary and starting weights -> seed -> run. Runs that differ in
            these are not averaged.
        """
        found: dict[str, Runs] = {}
        for spec, run in self._own.get(arm.identity, []):
            if split in spec.selection.report:
                loaded = self._load(spec, run)
                if _is_published_size(spec, split, len(loaded.records[split])):
                    origin = f"{spec.data_sha256} {spec.tokenizer} {spec.weights}"
                    found.setdefault(origin, {})[spec.seed] = loaded
        return found

    def _load(self, spec: RunSpec, run: RunDir) -> Run:
        if run.key not in self._loaded:
            self._loaded[run.key] = load_run(spec, run)
        return self._loaded[run.key]

    def _directory(self, run: Run) -> RunDir:
        return RunDir(self.runs / run.spec.key)

    def _counts(self, run: Run, protocol: str, split: str) -> pd.DataFrame | None:
        """Return what a published protocol counted, or None where it was not asked."""
        directory = self._directory(run)
        counts = read_counts(directory, protocol, split)
        if counts is not None and {*counts["sent_id"]} != {*run.records[split]["sent_id"]}:
            raise UserError(
                f"{counts_path(directory, protocol, split)} is not about the expressions of the"
                " run's records: delete it and measure the run again."
            )
        return counts

    def _compared(self, better: Runs, than: Runs, part: Part) -> Found | None:
        """Return the paired difference of runs with the same seeds, or None where there is none."""
        if not better:
            return None
        if part.corruption:
            difference = self._corrupted(better, than, part)
        else:
            records = [
                {seed: run.records[part.split] for seed, run in runs.items()}
                for runs in (than, better)
            ]
            try:
                every = bootstrap.paired_differences(*records, names=[part.metric])
            except UserError as error:
                keys = ", ".join(run.spec.key for run in (*better.values(), *than.values()))
                raise UserError(f"split '{part.split}' of {keys}: {error}") from None
            difference = every[part.metric]
        if difference is None:
            return None
        keys = tuple(run.spec.key for run in (*better.values(), *than.values()))
        return Found(_turned(difference, part.metric), keys)

    def _corrupted(self, better: Runs, than: Runs, part: Part) -> Difference | None:
        """Return the difference of means over severities, or None where a condition is missing."""
        conditions = [str(Corrupted(part.corruption, severity)) for severity in SEVERITIES]
        seeds = [*better]
        every = [runs[seed] for runs in (better, than) for seed in seeds]
        for run in every:
            done = finished_conditions(self._directory(run), part.split)
            if not {*conditions} <= {*done}:
                return None
        tables = [
            self._under(run, part.split, condition) for condition in conditions for run in every
        ]
        points = np.array([metrics.compute(table)[part.metric] for table in tables])
        drawn = bootstrap.resampled(tables, names=[part.metric])[..., 0]
        # Runs stand side by side and conditions below each other, so the first axis is severities.
        mean = points.reshape(len(conditions), len(every)).mean(axis=0)
        resamples = drawn.reshape(len(conditions), len(every), -1).mean(axis=0)
        half = len(seeds)
        per_seed = dict(zip(seeds, (mean[:half] - mean[half:]).tolist(), strict=True))
        return bootstrap.difference(per_seed, (resamples[:half] - resamples[half:]).mean(axis=0))

    def _under(self, run: Run, split: str, condition: str) -> pd.DataFrame:
        """Return the records of a run under a condition."""
        directory = self._directory(run)
        records = read_results(directory, split, condition)
        if {*records["sent_id"]} != {*run.records[split]["sent_id"]}:
            raise UserError(
                f"{results_path(directory, split, condition)} is not about the expressions of the"
                " run's records: delete it and start `risbench robustness` again."
            )
        return records


def _paired(better: Mapping[str, Runs], than: Mapping[str, Runs]) -> tuple[Runs, Runs]:
    """Return the runs of both arms with common seeds, of the origin that has most of them."""
    seeds = {
        origin: sorted(better[origin].keys() & than.get(origin, {}).keys()) for origin in better
    }
    if not any(seeds.values()):
        return {}, {}
    origin = max(sorted(seeds), key=lambda its: len(seeds[its]))
    one, other = better[origin], than[origin]
    return {its: one[its] for its in seeds[origin]}, {its: other[its] for its in seeds[origin]}


def _unscaled(strategy: Strategy) -> str:
    """Return a strategy as text, without what follows the size of the network input."""
    values = strategy.model_dump(mode="json")
    return json.dumps({name: values[name] for name in sorted({*values} - SCALED)})


def _turned(difference: Difference, metric: str) -> Difference:
    """Return a difference in which positive is an improvement."""
    if metrics.get(metric).higher_is_better:
        return difference
    estimate = dataclasses.replace(difference.estimate, value=-difference.estimate.value)
    low, high = difference.over_images
    return Difference(
        -difference.value,
        {seed: -its for seed, its in difference.per_seed.items()},
        estimate,
        bootstrap.Interval(-high, -low),
    )


def _trained_on_published(spec: RunSpec, run: RunDir) -> bool:
    """Return whether a run took as many steps as the published training set makes it take.

    A folder called like a data set may hold a part of it.
    """
    samples = hours.samples(spec)
    if samples is None or datasets.get(spec.dataset).joins:
        return True
    steps = samples / spec.recipe.batch_size
    return abs(run.status().steps - steps) <= TOLERANCE * steps


def _is_published_size(spec: RunSpec, split: str, expressions: int) -> bool:
    """Return whether a split has as many expressions as the published one."""
    name, split_by, own = splits.owner(split) or (spec.dataset, spec.split_by, split)
    known = datasets.get(name).counts.get(split_by, {}).get(own)
    return known is None or abs(expressions - known.expressions) <= TOLERANCE * known.expressions
