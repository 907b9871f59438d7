"""How long a run will train on a card, before anything is measured and without data or torch.

A finished run that differs in its seed alone says it best. Where there is none, a file
`speeds/<card>.json` knows what papers say of that card, and the answer names the card.
"""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

import methods
from benchmark.base.files import read_json
from benchmark.data import datasets
from benchmark.runs.costs import read_costs
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec

SPEEDS = Path(__file__).parent / "speeds"
PASSES_OF_A_STEP = 3  # forward and backward, in units of a forward pass


@dataclasses.dataclass(frozen=True)
class Hours:
    """How long one run trains, evaluation not counted.

    Attributes:
        value: hours on one card.
        source: what says so.
    """

    value: float
    source: str


def samples(spec: RunSpec) -> int | None:
    """Return the samples that a run trains on, or None where the data's counts are not known."""
    units = _units(spec.dataset, spec.split_by, methods.definition(spec.method).unit)
    return units * spec.recipe.epochs if units else None


def _units(name: str, split_by: str, unit: str) -> int | None:
    """Return the refs or expressions of an epoch, from the counts of the published files."""
    known = datasets.get(name) if name in datasets.DATASETS else None
    if known is None:
        return None
    if count := known.counts.get(split_by, {}).get(known.train):
        return count.refs if unit == "ref" else count.expressions
    # A joined set drops some images of its parts, so this is a little more than it has.
    parts = [_units(*part, unit) for part in known.joins]
    return sum(parts) if parts and None not in parts else None


def training_hours(spec: RunSpec, same: Iterable[RunDir] = ()) -> Hours | None:
    """Return how long a run will train, or None where nothing says it.

    Args:
        spec: of the run.
        same: finished runs that differ from it in their seed alone, whose costs count first.
    """
    for run in same:
        costs = read_costs(run)
        if costs and costs.training_seconds:
            return Hours(costs.training_seconds * _cards(run) / 3600, "as long as finished runs")
    count = samples(spec)
    if count is None:
        return None
    for speed in _speeds():
        if gflops := speed["gflops"].get(spec.method, {}).get(spec.variant):
            seconds = PASSES_OF_A_STEP * gflops / speed["teraflops"] / 1000
            # A second pass costs a little less than the first, since samples are loaded once.
            several = 1 + (speed["two_passes"] - 1) * (spec.strategy.passes - 1)
            hours = count * seconds * several / 3600
            return Hours(hours, f"estimated for one {speed['card']}")
    return None


def _cards(run: RunDir) -> int:
    """Return how many processes shared the batches of a run, each of which had a card."""
    numerics = run.read_json("environment.json").get("numerics", {})
    return int(numerics.get("processes", 1))


@functools.cache
def _speeds() -> list[dict]:
    return [read_json(path) for path in sorted(SPEEDS.glob("*.json"))]
