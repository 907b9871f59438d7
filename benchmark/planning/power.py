"""What a plan can decide before it is run: the smallest difference, and the seeds for a wanted one.

The deviation between seeds and the error from the images are taken from finished pairs of the same
method and variant on the same data, or else of the method anywhere. Where there are none, they are
assumed, and the answer says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import methods
from benchmark import strategies
from benchmark.base.errors import UserError
from benchmark.planning.hours import Hours, training_hours
from benchmark.runs.comparisons import planned_comparisons, role
from benchmark.runs.groups import Group
from benchmark.runs.rundir import RunDir, all_runs
from benchmark.runs.spec import RunSpec

if TYPE_CHECKING:  # A plan without runs does not wait a second for pandas and SciPy.
    from benchmark.evaluation.verdict import Estimate
    from benchmark.planning.plan import Planned

# Assumed where nothing is known, as fractions. They are middle values of those with which the
# verdict was simulated, and no measurement, so the answer says "assumed".
ASSUMED_SEED_DEVIATION = 0.005
ASSUMED_IMAGE_ERROR = 0.003
RESAMPLES = 500  # an error that is known to 3 % plans well enough, and a plan should not wait


@dataclasses.dataclass(frozen=True)
class Spread:
    """What makes a difference uncertain, as fractions.

    Attributes:
        seed_deviation: between the differences of seed pairs.
        image_error: standard error from the choice of test images.
        source: where both are from.
    """

    seed_deviation: float
    image_error: float
    source: str


@dataclasses.dataclass(frozen=True)
class Decidable:
    """What the comparisons of a method on a data set can decide.

    Attributes:
        method: name.
        variant: its size.
        dataset: name, with its way of splitting.
        pairs: number of planned seed pairs.
        spread: what makes them uncertain.
        difference: the smallest that is found with 80 % power, a fraction. It is NaN below three
            pairs.
        seeds: how many a wanted difference takes. It is None where no number does, or none is
            wanted.
        hours: training of these seeds with all strategies, on one card or processor. It is None
            where no seeds are counted, or nothing says how long a run takes.
        hours_from: what says it.
    """

    method: str
    variant: str
    dataset: str
    pairs: int
    spread: Spread
    difference: float
    seeds: int | None
    hours: float | None
    hours_from: str


def decidable(
    group: Group,
    specs: Sequence[RunSpec],
    runs: Path,
    wanted: float | None = None,
    planned: Iterable[Planned] = (),
) -> list[Decidable]:
    """Return what each method of a plan can decide on each data set, in the order of the plan.

    Args:
        group: the plan. It says which seeds are planned, whatever of it is run now.
        specs: of its runs, as far as they are known.
        runs: folder of finished runs.
        wanted: a true difference for which the seeds are counted, a fraction.
        planned: runs whose spec and status are known already, so that they are not read again.
    """
    from benchmark.evaluation import verdict

    planned = [*planned]
    family = planned_comparisons(group, specs)
    every = _finished(runs, {run.spec.key: run for run in planned})
    found = []
    own = [its for its in family if not its.made_elsewhere]
    for method, variant, dataset, split_by in dict.fromkeys(its[:4] for its in own):
        what = (method, variant, dataset, split_by)
        spread = _spread(every, group, what)
        size = (spread.seed_deviation, spread.image_error, len(family))
        pairs = _planned_pairs(group, what)
        enough = pairs >= verdict.LEAST_PAIRS
        seeds = verdict.seeds_to_detect(wanted, *size) if wanted else None
        each = _hours_of_a_seed(specs, planned, every, what) if seeds else []
        known = bool(each) and None not in each
        found.append(
            Decidable(
                method,
                variant,
                f"{dataset}:{split_by}",
                pairs,
                spread,
                verdict.detectable(pairs, *size) if enough else math.nan,
                seeds,
                seeds * sum(its.value for its in each) if known else None,
                ", ".join(dict.fromkeys(its.source for its in each)) if known else "",
            )
        )
    return found


def _planned_pairs(group: Group, what: tuple[str, str, str, str]) -> int:
    seeds = {
        cell.seed
        for cell in group.cells
        if (cell.method, cell.variant, cell.dataset, cell.split_by) == what and not cell.name
    }
    return len(seeds)


def _hours_of_a_seed(
    specs: Sequence[RunSpec],
    planned: Iterable[Planned],
    finished: Sequence[tuple[RunSpec, RunDir]],
    what: tuple[str, str, str, str],
) -> list[Hours | None]:
    """Return how long the run of each strategy trains, which is None where nothing says it."""
    measured = {run.spec.key: run for run in planned}
    one_of = {
        spec.strategy.name: spec
        for spec in specs
        if (spec.method, spec.variant, spec.dataset, spec.split_by) == what
    }
    found: list[Hours | None] = []
    for spec in one_of.values():
        run = measured.get(spec.key)
        if run and run.measured and run.measured.seconds is not None:
            value = run.steps * run.measured.seconds / 3600
            found.append(Hours(value, "a measured step"))
            continue
        same = [its for other, its in finished if other.without_seed() == spec.without_seed()]
        found.append(training_hours(spec, same))
    return found


def _finished(runs: Path, known: Mapping[str, Planned]) -> list[tuple[RunSpec, RunDir]]:
    finished = []
    for run in all_runs(runs):
        status = known[run.key].status if run.key in known else run.status()
        if status.state == "done" and run.kind == "trained":
            finished.append((known[run.key].spec if run.key in known else run.spec(), run))
    return finished


def _spread(
    finished: Sequence[tuple[RunSpec, RunDir]], group: Group, what: tuple[str, str, str, str]
) -> Spread:
    method, variant, dataset, split_by = what
    own = [(spec, run) for spec, run in finished if spec.method == method]
    there = [
        (spec, run)
        for spec, run in own
        if (spec.variant, spec.dataset, spec.split_by) == (variant, dataset, split_by)
    ]
    is_weak = methods.definition(method).weakly_supervised
    metric = group.primary["weak" if is_weak else "full"]
    elsewhere = [its for its in own if its not in there]
    for runs, words in ((there, "here"), (elsewhere, "elsewhere")):
        estimates = [its for pairs in _pairs(runs) for its in _estimates(*pairs, metric)]
        deviations = [its.seed_deviation for its in estimates if its.pairs > 1]
        errors = [its.image_error for its in estimates if not math.isnan(its.image_error)]
        if errors:
            # The most uncertain split and strategy, so that the answer holds for all of them.
            deviation = max(deviations, default=ASSUMED_SEED_DEVIATION)
            source = f"finished pairs {words}" + ("" if deviations else ", deviation assumed")
            return Spread(deviation, max(errors), source)
    return Spread(ASSUMED_SEED_DEVIATION, ASSUMED_IMAGE_ERROR, "assumed")


def _pairs(
    finished: Iterable[tuple[RunSpec, RunDir]],
) -> list[tuple[dict[int, RunDir], dict[int, RunDir], RunSpec]]:
    """Return the runs of the reference and of another strategy, by seed, that can be compared."""
    reference = strategies.reference().name
    settings: dict[str, dict[str, dict[int, RunDir]]] = {}
    one_of: dict[str, RunSpec] = {}
    for spec, run in finished:
        rest = spec.model_dump_json(exclude={"seed", "strategy"})
        label = spec.strategy.name if spec.strategy.name == reference else spec.without_seed()
        settings.setdefault(rest, {}).setdefault(label, {})[spec.seed] = run
        one_of[rest] = spec
    found = []
    for rest, by_label in settings.items():
        before = by_label.get(reference, {})
        for label, after in by_label.items():
            seeds = sorted(before.keys() & after.keys())
            if label != reference and seeds:
                pair = (
                    {seed: before[seed] for seed in seeds},
                    {seed: after[seed] for seed in seeds},
                )
                found.append((*pair, one_of[rest]))
    return found


def _estimates(
    before: dict[int, RunDir], after: dict[int, RunDir], spec: RunSpec, metric: str
) -> list[Estimate]:
    """Return the estimate of the difference on every test split, but where records are damaged."""
    from benchmark.evaluation import bootstrap

    found = []
    for split in (split for split in spec.selection.report if role(spec, split) == "test"):
        try:
            records = [
                {seed: run.records(split) for seed, run in its.items()} for its in (before, after)
            ]
        except UserError:
            continue
        difference = bootstrap.paired_differences(*records, resamples=RESAMPLES, names=[metric])[
            metric
        ]
        found.append(difference.estimate)
    return found
