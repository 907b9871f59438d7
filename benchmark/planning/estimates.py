"""How long a training step takes on a card and what memory it needs, without data or torch.

What was measured for just this step counts. Else the nearest measurement of the method is scaled,
and the answer says that it is an estimate:

    seconds = operations / rate of matrix products + the rest of the measured step,

where the rest, in which memory is read and written, follows the bandwidths of the two cards, and

    bytes = weights, gradients and optimizer + pairs * bytes of a pair,

where the bytes of a pair are what the measured peak leaves after the fixed part. Another variant
of the network is taken in proportion to the operations of its forward pass.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from pathlib import Path

from benchmark.base.files import read_json
from benchmark.planning.cards import REFERENCE, Card, Step, card
from benchmark.runs.spec import RunSpec
from methods.config import AUTOCAST

NETWORKS = Path(__file__).parent / "networks.json"
WEIGHT_BYTES = 4  # of a parameter, in each precision of a recipe
TRAINED_BYTES = 12  # of a trained one, beyond that: its gradient and Adam's two moments
CAST_BYTES = 2  # of a parameter's copy in half precision, which autocast keeps during a pass


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The training step that is asked for.

    Attributes:
        method: the registered name of the method.
        variant: its size.
        strategy: the registered name of the strategy.
        passes: its passes of a step.
        precision: of the recipe.
    """

    method: str
    variant: str
    strategy: str
    passes: float
    precision: str

    @classmethod
    def of(cls, spec: RunSpec) -> Wanted:
        """Return the step of a run."""
        strategy = spec.strategy
        its = (strategy.name, strategy.passes, spec.recipe.precision)
        return cls(spec.method, spec.variant, *its)


@dataclasses.dataclass(frozen=True)
class Seconds:
    """The time of a step, for each of its pairs.

    Attributes:
        value: seconds of a pair.
        source: `measured`, `published` or `estimate`.
    """

    value: float
    source: str


@dataclasses.dataclass(frozen=True)
class Memory:
    """The memory that a step needs.

    Attributes:
        fixed: bytes of weights, gradients and optimizer.
        of_pair: bytes of each image-sentence pair of a micro-batch.
        measured: pairs of a micro-batch -> bytes that were measured on this card.
    """

    fixed: float
    of_pair: float
    measured: dict[int, int]

    def bytes(self, pairs: int) -> float:
        """Return the bytes of a micro-batch."""
        return self.measured.get(pairs, self.fixed + pairs * self.of_pair)

    def most_pairs(self, its: Card) -> int:
        """Return the pairs of the largest micro-batch that a card holds."""
        return max(0, math.floor((its.usable_bytes - self.fixed) / self.of_pair))


@functools.cache
def _networks() -> dict[str, dict[str, dict[str, float]]]:
    return read_json(NETWORKS)["networks"]


def _network(method: str, variant: str) -> dict[str, float] | None:
    return _networks().get(method, {}).get(variant)


def seconds(wanted: Wanted, on: Card) -> Seconds | None:
    """Return what a step takes for each of its pairs, or None where nothing says it."""
    for its in (on, card(REFERENCE)):
        if base := _nearest(wanted, its.steps):
            if its is on and _is(wanted, base):
                return Seconds(base.seconds / base.pairs, base.source)
            return Seconds(_scaled(wanted, base, its, on), "estimate")
    return None


def memory(wanted: Wanted, on: Card) -> Memory | None:
    """Return the memory that a step needs, or None where nothing says it.

    The passes of a strategy follow each other, so that more of them need hardly more memory.
    """
    for its in (on, card(REFERENCE)):
        if base := _nearest(wanted, [step for step in its.steps if step.peak_bytes]):
            fixed = _fixed_bytes(base.method, base.variant, base.precision)
            of_pair = (base.peak_bytes - fixed) / base.pairs * _size(wanted, base)
            of_pair *= _width(wanted.precision) / _width(base.precision)
            same = its is on and _is(wanted, base)
            return Memory(
                _fixed_bytes(wanted.method, wanted.variant, wanted.precision),
                of_pair,
                {base.pairs: base.peak_bytes} if same else {},
            )
    return None


def _is(wanted: Wanted, step: Step) -> bool:
    """Return whether a step is the one that is asked for."""
    return all(getattr(step, name) == value for name, value in dataclasses.asdict(wanted).items())


def _nearest(wanted: Wanted, steps: Iterable[Step]) -> Step | None:
    """Return the step from which the least has to be estimated, or None where none is of use."""
    of_use = [
        step
        for step in steps
        if step.method == wanted.method
        and (
            step.variant == wanted.variant
            or _network(step.method, step.variant)
            and _network(wanted.method, wanted.variant)
        )
    ]

    def distance(step: Step) -> tuple[bool, bool, bool, float, bool]:
        return (
            step.variant != wanted.variant,
            _width(step.precision) != _width(wanted.precision),
            step.precision != wanted.precision,
            abs(step.passes - wanted.passes),
            step.strategy != wanted.strategy,
        )

    return min(of_use, key=distance, default=None)


def _scaled(wanted: Wanted, base: Step, its: Card, on: Card) -> float:
    """Return the seconds of a pair of `wanted` on `on`, from a step of the card `its`."""
    before, after = its.rates(), on.rates()
    flops = base.flops / base.pairs
    rest = max(0.0, base.seconds / base.pairs - flops / before.flops(base.precision))
    rest *= before.bytes / after.bytes * _width(wanted.precision) / _width(base.precision)
    of_base = flops / after.flops(wanted.precision) + rest
    return of_base * _size(wanted, base) * wanted.passes / base.passes


def _size(wanted: Wanted, base: Step) -> float:
    """Return the operations of the wanted variant as a multiple of the measured one's."""
    if wanted.variant == base.variant:
        return 1.0
    own, other = (_network(wanted.method, its.variant)["gflops"] for its in (wanted, base))
    return own / other


def _width(precision: str) -> int:
    """Return the bytes of a number that is kept for the backward pass."""
    return 2 if precision in AUTOCAST else 4


def _fixed_bytes(method: str, variant: str, precision: str) -> float:
    """Return the bytes that do not depend on the micro-batch, 0 where the network is not known."""
    network = _network(method, variant)
    if network is None:
        return 0.0
    of_parameter = WEIGHT_BYTES + (CAST_BYTES if precision in AUTOCAST else 0)
    trained = network["trained_parameters"]
    return of_parameter * network["parameters"] + TRAINED_BYTES * trained
