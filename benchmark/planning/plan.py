"""What a plan would do: states, steps, parameters, and a time estimated from a measured step.

Without measuring, nothing here builds a network or imports torch.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import methods
from benchmark.data.datasets import TRAIN
from benchmark.runs.resolve import Matrix, Opened
from benchmark.runs.rundir import RunDir, RunStatus
from benchmark.runs.spec import RunSpec

if TYPE_CHECKING:
    from benchmark.training.trainer import Trainer

MEASURED_STEPS = 2


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a step of a network was measured to be.

    Attributes:
        parameters: of the network. seconds: a step's, at least; None where the device is not here.
    """

    parameters: int
    seconds: float | None


@dataclasses.dataclass(frozen=True)
class Planned:
    """One run of a plan.

    Attributes:
        spec, status: what it is and how far. steps: optimizer steps in all. measured: None where nothing was measured.
    """

    spec: RunSpec
    status: RunStatus
    steps: int
    measured: Measured | None

    @property
    def seconds_left(self) -> float | None:
        """Training time that is left, evaluation not counted; None where it is not known."""
        if self.status.state == "done":
            return 0.0
        if self.measured is None or self.measured.seconds is None:
            return None
        return (self.steps - self.status.step) * self.measured.seconds


def steps_of(spec: RunSpec, opened: Opened) -> int:
    """Return the optimizer steps of a run, as `data.samples` makes them."""
    refs = opened.dataset(spec.dataset, spec.split_by).refs_of(TRAIN)
    by_ref = methods.definition(spec.method).unit == "ref"
    units = len(refs) if by_ref else sum(len(ref.sentences) for ref in refs)
    recipe = spec.recipe
    whole = units // recipe.batch_size
    # An incomplete batch is dropped unless it is the only one.
    per_epoch = max(1, whole) if recipe.drop_last else math.ceil(units / recipe.batch_size)
    return per_epoch * recipe.epochs


def plan(
    matrix: Matrix, measure: bool, tell: Callable[[str], None] = lambda what: None
) -> list[Planned]:
    """Return all runs of a matrix, those that make targets for others first.

    Args:
        measure: time a step of each network. tell: told what is being measured.
    """
    measured: dict[tuple[str, ...], Measured] = {}
    planned = []
    for spec in (*matrix.needed, *matrix.specs):
        group = (spec.method, spec.variant, spec.strategy.name, spec.dataset)
        if measure and group not in measured:
            tell(" ".join(group))
            measured[group] = _measure(spec, matrix)
        status = RunDir(matrix.places.runs / spec.key).status()
        planned.append(Planned(spec, status, steps_of(spec, matrix.opened), measured.get(group)))
    return planned


def _measure(spec: RunSpec, matrix: Matrix) -> Measured:
    """Return a network's parameters and, where the device is here, the least time of a few of its steps."""
    import torch

    from benchmark.training.trainer import Trainer

    execution = matrix.execution
    _, tokenizer = matrix.opened.run(spec)
    with torch.device("meta"):
        network = methods.get(spec.method)(spec.network, tokenizer.size)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if execution.numerics.device == "cuda" and not torch.cuda.is_available():
        return Measured(parameters, None)
    if methods.definition(
        spec.method
    ).targets_from:  # its targets are made by another run of this plan
        return Measured(parameters, None)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            spec, RunDir(Path(folder) / spec.key), matrix.opened, execution, published_start=False
        )
        return Measured(parameters, _seconds_per_step(trainer))


def _seconds_per_step(trainer: Trainer) -> float:
    """Return the least time of a few training steps; the first one, which warms up, is left out."""
    from benchmark.data.samples import training_batches

    recipe, taken = trainer.spec.recipe, []
    steps = trainer.samples.order(0, recipe.batch_size, recipe.drop_last)[: MEASURED_STEPS + 1]
    trainer.network.train()
    for batches in training_batches(trainer.samples, 0, steps, recipe.micro_batch, 0, 1, 0):
        started = time.perf_counter()
        trainer.optimize(batches, 0)
        taken.append(time.perf_counter() - started)
    return min(taken[1:] or taken)


def total_seconds(planned: Iterable[Planned], at_a_time: int) -> float | None:
    """Return the training time of all runs, so many at a time; None where that of some is not known."""
    left = [its.seconds_left for its in planned]
    return None if None in left else sum(left) / at_a_time


def duration(seconds: float) -> str:
    """Return seconds in words that a person reads."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
