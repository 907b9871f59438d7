"""How long a run will train on a card, before anything is measured and without data or torch.

A finished run that differs in its seed alone says it best. Where there is none, the steps that
were measured on the card `cards.REFERENCE` do, and the answer names the card.
"""

import dataclasses
from collections.abc import Iterable

import methods
from benchmark.data import datasets
from benchmark.planning import estimates
from benchmark.planning.cards import REFERENCE, card
from benchmark.runs.costs import read_costs
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec


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
    of_pair = estimates.seconds(estimates.Wanted.of(spec), card(REFERENCE))
    if of_pair is None:
        return None
    words = "estimated for" if of_pair.source == "estimate" else f"by steps {of_pair.source} on"
    hours = count * of_pair.value / 3600
    return Hours(hours, f"{words} one {card(REFERENCE).card}")


def _cards(run: RunDir) -> int:
    """Return how many processes shared the batches of a run, each of which had a card."""
    numerics = run.read_json("environment.json").get("numerics", {})
    return int(numerics.get("processes", 1))
