"""What the claims' own runs say to a comparison or a value, or why they say nothing yet."""

import dataclasses
from pathlib import Path

import numpy as np

from benchmark.base.errors import UserError
from benchmark.evaluation import bootstrap, metrics
from benchmark.evaluation.bootstrap import Mean
from benchmark.evaluation.image_sums import ImageSums
from benchmark.evaluation.published_scores import SCORES, read_counts
from benchmark.robustness.corruptions import SEVERITIES, Condition
from benchmark.robustness.results import finished_conditions, read_results, results_path
from benchmark.runs.rundir import RunDir
from reports.claims.arm import Arm
from reports.claims.claims import Part, Value
from reports.claims.finished import FinishedRuns, Runs, targets_of, wrong_size
from reports.collected import Run


@dataclasses.dataclass(frozen=True)
class Found:
    """What runs say to a comparison or a value.

    Attributes:
        mean: over seeds, of the better arm minus the other, turned so that positive is an
            improvement, or of the value.
        runs: keys of the runs.
    """

    mean: Mean
    runs: tuple[str, ...]


class Evidence:
    """Answers of the claims' own runs. Each comparison is made once.

    Attributes:
        runs: folder of the run directories.
        finished: the runs.
    """

    def __init__(self, runs: Path, finished: FinishedRuns) -> None:
        self.runs = runs
        self.finished = finished
        self._found: dict[object, Found | None] = {}

    # --- answers ----------------------------------------------------------------------------------

    def comparison(self, part: Part) -> Found | None:
        """Return what runs say to a comparison, or None where there is no pair of them."""
        key = (part.better.identity, part.than.identity, part.split, part.metric, part.corruption)
        if key not in self._found:
            better, than = self._pairs(part)
            self._found[key] = self._compared(better, than, part) if better else None
        return self._found[key]

    def value(self, value: Value) -> Found | None:
        """Return what runs have in the place of a published value, or None where there is none."""
        protocol = value.arm.protocol
        scores = SCORES[protocol] if protocol else None
        measured: dict[str, dict[int, tuple[Run, ImageSums]]] = {}
        for origin, by_seed in self.of(value.arm, value.split).items():
            for seed, run in by_seed.items():
                summed = run.splits[value.split]
                if protocol:
                    directory = self.directory(run)
                    records = directory.records(value.split)
                    counts = read_counts(directory, protocol, value.split, records)
                    summed = None if counts is None else ImageSums.of(counts, scores)
                if summed is not None:
                    measured.setdefault(origin, {})[seed] = (run, summed)
        if not measured:
            return None
        chosen = measured[max(sorted(measured), key=lambda origin: len(measured[origin]))]
        keys = tuple(run.key for run, _ in chosen.values())
        by_seed = {seed: summed for seed, (_, summed) in chosen.items()}
        return Found(bootstrap.means(by_seed, names=[value.metric])[value.metric], keys)

    def lacking(self, arm: Arm, split: str, protocol: str = "") -> str:
        """Return why an arm's finished runs say nothing about a split, or "" where it has none."""
        members = self.finished.of(arm)
        if not members:
            return next(iter(self.finished.refused.get(arm.identity, ())), "")
        reporting = [its for its in members if split in its.spec.selection.report]
        if not reporting:
            return f"the finished runs of {arm.label} do not report {split}"
        if not self.of(arm, split):
            loaded = [run for its in reporting if (run := self.finished.load(its))]
            sizes = [wrong_size(run, split) for run in loaded]
            return sizes[0] if sizes else f"the finished runs of {arm.label} are damaged"
        return f"the finished runs of {arm.label} are not measured by the protocol {protocol} yet"

    def done(self, arm: Arm, split: str) -> set[int]:
        """Return the seeds of an arm that are finished and report a split of the published size."""
        return {seed for by_seed in self.of(arm, split).values() for seed in by_seed}

    # --- runs -------------------------------------------------------------------------------------

    def of(self, arm: Arm, split: str) -> dict[str, Runs]:
        """Return the runs of an arm that report a split of the published size.

        Returns:
            Digests of data, vocabulary and starting weights -> seed -> run. Runs that differ in
            these are not averaged.
        """
        found: dict[str, Runs] = {}
        for member in self.finished.of(arm):
            spec = member.spec
            if split not in spec.selection.report or not (run := self.finished.load(member)):
                continue
            if not wrong_size(run, split):
                origin = f"{spec.data_sha256} {spec.tokenizer} {spec.weights}"
                found.setdefault(origin, {})[spec.seed] = run
        return found

    def directory(self, run: Run) -> RunDir:
        """Return the directory of a run."""
        return RunDir(self.runs / run.key)

    def _pairs(self, part: Part) -> tuple[Runs, Runs]:
        """Return the runs of both arms with common seeds, of the origin that has most of them."""
        better = self.of(part.better, part.split)
        than = self.of(part.than, part.split)
        seeds = {
            origin: [
                seed
                for seed in sorted(own.keys() & than.get(origin, {}).keys())
                if self._comparable(own[seed], than[origin][seed], part)
            ]
            for origin, own in better.items()
        }
        if not any(seeds.values()):
            return {}, {}
        origin = max(sorted(seeds), key=lambda its: len(seeds[its]))
        one, other = better[origin], than[origin]
        return {its: one[its] for its in seeds[origin]}, {its: other[its] for its in seeds[origin]}

    def _comparable(self, one: Run, other: Run, part: Part) -> bool:
        """Return whether two runs had the same targets, and were evaluated under a corruption."""
        if targets_of(one.spec) != targets_of(other.spec):
            return False
        wanted = {*self.conditions(part)}
        return all(
            wanted <= {*finished_conditions(self.directory(run), part.split)}
            for run in (one, other)
            if wanted
        )

    @staticmethod
    def conditions(part: Part) -> list[str]:
        """Return the names of the conditions of a part: its corruption at every severity."""
        if not part.corruption:
            return []
        return [str(Condition(part.corruption, severity)) for severity in SEVERITIES]

    def _compared(self, better: Runs, than: Runs, part: Part) -> Found:
        """Return the paired difference of runs with the same seeds."""
        if part.corruption:
            difference = self._corrupted(better, than, part)
        else:
            difference = paired(better, than, part.split)[part.metric]
        keys = tuple(run.key for run in (*better.values(), *than.values()))
        return Found(turned(difference, part.metric), keys)

    def _corrupted(self, better: Runs, than: Runs, part: Part) -> Mean:
        """Return the difference of means over severities."""
        conditions = self.conditions(part)
        every = [*better.values(), *than.values()]
        tables = [
            self._under(run, part.split, condition) for condition in conditions for run in every
        ]
        points = np.array([table.points[part.metric] for table in tables])
        drawn = bootstrap.resampled(tables, names=[part.metric])[..., 0]
        # Runs stand side by side and conditions below each other, so the first axis is severities.
        mean = points.reshape(len(conditions), len(every)).mean(axis=0)
        resamples = drawn.reshape(len(conditions), len(every), -1).mean(axis=0)
        half = len(better)
        per_seed = dict(zip(better, (mean[:half] - mean[half:]).tolist(), strict=True))
        between = (resamples[:half] - resamples[half:]).mean(axis=0)
        return bootstrap.mean(per_seed, _of_images(between, tables[0]))

    def _under(self, run: Run, split: str, condition: str) -> ImageSums:
        """Return the sums of a run's records under a condition."""
        directory = self.directory(run)
        records = read_results(directory, split, condition)
        if {*records["sent_id"]} != {*run.splits[split].expressions.sentences}:
            raise UserError(
                f"{results_path(directory, split, condition)} is not about the expressions of the"
                " run's records: delete it and start `risbench robustness` again."
            )
        return ImageSums.of(records)


def paired(better: Runs, than: Runs, split: str) -> dict[str, Mean]:
    """Return metric -> paired difference of runs with the same seeds on a split.

    Raises:
        UserError: the runs are not about the same expressions. The message names them.
    """
    pair = [{seed: run.splits[split] for seed, run in runs.items()} for runs in (than, better)]
    try:
        return bootstrap.paired_differences(*pair)
    except UserError as error:
        keys = ", ".join(run.key for run in (*better.values(), *than.values()))
        raise UserError(f"split '{split}' of {keys}: {error}") from None


def turned(difference: Mean, metric: str) -> Mean:
    """Return a difference in which positive is an improvement."""
    if metrics.get(metric).higher_is_better:
        return difference
    estimate = dataclasses.replace(difference.estimate, value=-difference.estimate.value)
    low, high = difference.over_images
    return Mean(
        -difference.value,
        {seed: -its for seed, its in difference.per_seed.items()},
        estimate,
        bootstrap.Interval(-high, -low),
    )


def _of_images(drawn: np.ndarray, summed: ImageSums) -> np.ndarray:
    """Return resamples, all NaN where there is one image, since resampling it says nothing."""
    return drawn if summed.images > 1 else np.full_like(drawn, np.nan)
