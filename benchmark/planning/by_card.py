"""What the runs of a preset would cost on a card: hours, memory, and the micro-batch that fits.

Nothing is read or measured, so neither data, weights nor the card itself have to be there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import methods
from benchmark import strategies
from benchmark.base.errors import UserError
from benchmark.planning import estimates, hours
from benchmark.planning.cards import Card
from benchmark.planning.estimates import Memory, Seconds, Wanted
from benchmark.runs.groups import Cell
from benchmark.runs.opened import Opened
from benchmark.runs.preset import Preset
from benchmark.runs.resolve import planned_cells, spec_without_files
from benchmark.runs.spec import RunSpec
from benchmark.runs.trainable import training_units


@dataclasses.dataclass(frozen=True)
class OnCard:
    """The runs of a preset that differ in their seed alone, on one card.

    Attributes:
        spec: of one of them, without anything that is read from data or weights.
        seeds: how many runs there are.
        card: the card.
        samples: that one run trains on, or None where that is not known without its data.
        of_pair: seconds of a step for each of its pairs, or None where nothing says it.
        memory: what a micro-batch needs, or None where nothing says it.
    """

    spec: RunSpec
    seeds: int
    card: Card
    samples: int | None
    of_pair: Seconds | None
    memory: Memory | None

    @property
    def name(self) -> str:
        """Method, variant and strategy."""
        return f"{self.spec.method} {self.spec.variant} {self.spec.strategy.name}"

    @property
    def step_seconds(self) -> float | None:
        """Seconds of a step of the whole batch."""
        return None if self.of_pair is None else self.of_pair.value * self.spec.recipe.batch_size

    @property
    def hours(self) -> float | None:
        """Hours that one run trains on one card, evaluation not counted."""
        if self.samples is None or self.of_pair is None:
            return None
        return self.samples * self.of_pair.value / 3600

    @property
    def bytes(self) -> float | None:
        """Memory of the recipe's micro-batch."""
        return None if self.memory is None else self.memory.bytes(self.spec.recipe.micro_batch)

    @property
    def memory_is_measured(self) -> bool:
        """Whether the memory of just this micro-batch was measured on this card."""
        return self.memory is not None and self.spec.recipe.micro_batch in self.memory.measured

    @property
    def fits(self) -> bool | None:
        """Whether the card holds the recipe's micro-batch, or None where nothing says it."""
        return None if self.at_a_time is None else self.at_a_time > 0

    @property
    def at_a_time(self) -> int | None:
        """How many such runs the card's memory holds together, or None where nothing says it."""
        return None if self.bytes is None else int(self.card.usable_bytes // self.bytes)

    def fitting_micro_batch(self) -> int | None:
        """Return the largest micro-batch that divides the batch and that the card holds, if any."""
        recipe = self.spec.recipe
        most = min(recipe.micro_batch, self.memory.most_pairs(self.card))
        # One vector a sample has no statistics where the sample is alone.
        alone = methods.definition(self.spec.method).batch_norm != "vectors"
        least = 1 if alone else 2
        fitting = [its for its in range(least, most + 1) if recipe.batch_size % its == 0]
        return max(fitting, default=None)


def advice(runs: Sequence[OnCard]) -> list[str]:
    """Return what to do for each network whose micro-batch the card does not hold.

    All strategies of a network get the same micro-batch, or they could not be compared.
    """
    networks: dict[tuple[str, str], list[OnCard]] = {}
    for its in runs:
        networks.setdefault((its.spec.method, its.spec.variant), []).append(its)
    return [
        _advice(of_one) for of_one in networks.values() if False in [its.fits for its in of_one]
    ]


def _advice(runs: Sequence[OnCard]) -> str:
    """Return which micro-batch fits for all runs of one network, and what it changes."""
    largest = max((its for its in runs if its.bytes is not None), key=lambda its: its.bytes)
    spec, definition = largest.spec, methods.definition(largest.spec.method)
    micro = spec.recipe.micro_batch
    start = (
        f"{spec.method} {spec.variant}: a micro-batch of {micro} needs {gib(largest.bytes)} GiB."
    )
    smaller = largest.fitting_micro_batch()
    if smaller is None:
        return f"{start} No smaller one fits either, so this card cannot train it."
    setting = f"recipes: {{{spec.method}: {{micro_batch: {smaller}}}}}"
    start = f"{start} {smaller} fit: write `{setting}` into a copy of the preset."
    seen = ["BatchNorm"] if definition.batch_norm else []
    seen += ["the loss"] if definition.couples_batch else []
    if not seen:
        return f"{start} The runs get other keys, and their numbers differ by rounding and dropout."
    return (
        f"{start} The runs get other keys and other numbers, since {' and '.join(seen)} would see"
        f" {smaller} samples at a time in place of {micro}."
    )


def gib(number: float) -> str:
    """Return bytes in GiB, as tables show them."""
    return f"{number / 2**30:.1f}"


def on_card(preset: Preset, card: Card, opened: Opened) -> list[OnCard]:
    """Return the runs of a preset on a card, without seeds. Runs that make targets come first.

    Args:
        preset: the runs.
        card: the card.
        opened: reads data whose number of samples nobody has published, if they are there.

    Raises:
        UserError: a name is not known, or a setting does not fit.
    """
    seeds: dict[tuple[str, ...], set[int]] = {}
    specs: dict[tuple[str, ...], RunSpec] = {}
    for cell in planned_cells(preset, opened.places.data):
        for its in _with_makers(cell):
            kind = (its.method, its.variant, its.strategy, its.dataset, its.split_by)
            seeds.setdefault(kind, set()).add(its.seed)
            if kind not in specs:
                specs[kind] = spec_without_files(its, preset)
    return [
        OnCard(
            spec,
            len(seeds[kind]),
            card,
            hours.samples(spec) or _samples(spec, opened),
            estimates.seconds(Wanted.of(spec), card),
            estimates.memory(Wanted.of(spec), card),
        )
        for kind, spec in specs.items()
    ]


def total_hours(runs: Sequence[OnCard]) -> float | None:
    """Return the hours of all runs one after the other, or None where those of one are unknown."""
    each = [its.hours for its in runs]
    return None if None in each else sum(its.seeds * its.hours for its in runs)


def _with_makers(cell: Cell) -> Iterator[Cell]:
    """Yield the runs that make targets for a run, and then the run."""
    if maker := methods.definition(cell.method).targets_from:
        own = dataclasses.replace(cell, method=maker, strategy=strategies.reference().name)
        yield from _with_makers(own)
    yield cell


def _samples(spec: RunSpec, opened: Opened) -> int | None:
    """Return the samples that a run trains on from its data, or None where these are not there."""
    try:
        dataset = opened.dataset(spec.dataset, spec.split_by)
    except UserError:
        return None
    return training_units(methods.definition(spec.method), dataset) * spec.recipe.epochs
