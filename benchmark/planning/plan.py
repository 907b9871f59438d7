"""What a plan would do: states, steps, parameters, and times estimated from a measured step.

Nothing here builds a network or imports torch unless a step is measured.
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
from benchmark.planning import timed_steps
from benchmark.planning.timed_steps import Timed
from benchmark.runs.opened import Opened
from benchmark.runs.resolve import Matrix
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from benchmark.runs.status import RunStatus
from benchmark.runs.trainable import training_units

if TYPE_CHECKING:
    from benchmark.training.trainer import Trainer

MEASURED_STEPS = 2  # after one that warms up


@dataclasses.dataclass(frozen=True)
class Planned:
    """One run of a plan.

    Attributes:
        spec: what it is.
        status: how far it is.
        steps: number of optimizer steps in all.
        measured: of its network, or None if nothing was measured.
    """

    spec: RunSpec
    status: RunStatus
    steps: int
    measured: Timed | None

    @property
    def seconds_left(self) -> float | None:
        """The training time that is left, in seconds without evaluation, or None if not known."""
        if self.status.state == "done":
            return 0.0
        if self.measured is None or self.measured.seconds is None:
            return None
        return (self.steps - self.status.step) * self.measured.seconds


def steps_of(spec: RunSpec, opened: Opened) -> int:
    """Return the optimizer steps of a run, as `data.samples` makes them."""
    dataset = opened.dataset(spec.dataset, spec.split_by)
    units = training_units(methods.definition(spec.method), dataset)
    recipe = spec.recipe
    per_epoch = math.ceil(units / recipe.batch_size)
    if recipe.drop_last:
        # An incomplete batch is dropped unless it is the only one.
        per_epoch = max(1, units // recipe.batch_size)
    return per_epoch * recipe.epochs


def plan(
    matrix: Matrix, measure: bool | None, tell: Callable[[str], None] = lambda what: None
) -> list[Planned]:
    """Return all runs of a matrix. Those that make targets for others come first.

    Args:
        matrix: the runs and where their data lie.
        measure: whether a step of each network is timed. With None, this machine times what it has
            not timed before.
        tell: is called with what is being measured.

    Raises:
        UserError: a run's data are missing or damaged.
    """
    measured: dict[tuple[str, ...], Timed] = {}
    planned = []
    for spec in (*matrix.needed, *matrix.specs):
        group = (spec.method, spec.variant, spec.strategy.name, spec.dataset)
        if measure is not False and group not in measured:
            before = None if measure else timed_steps.recall(spec, matrix.execution)
            if before is None:
                tell(" ".join(group))
                before = _measure(spec, matrix)
                timed_steps.keep(spec, matrix.execution, before)
            measured[group] = before
        status = RunDir(matrix.places.runs / spec.key).status()
        planned.append(Planned(spec, status, steps_of(spec, matrix.opened), measured.get(group)))
    return planned


def _measure(spec: RunSpec, matrix: Matrix) -> Timed:
    """Return a network's parameters and, if the device is here, the least time of a few steps."""
    import torch

    from benchmark.training.disk import disk
    from benchmark.training.trainer import Trainer

    execution = matrix.execution
    _, tokenizer = matrix.opened.run(spec)
    # On this device a network has shapes and no weights.
    with torch.device("meta"):
        network = methods.get(spec.method)(spec.network, tokenizer.size)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    takes = disk(network, spec, matrix.opened)
    untimed = Timed(parameters, takes.kept, takes.under_way, None)
    if execution.numerics.device == "cuda" and not torch.cuda.is_available():
        return untimed
    if methods.definition(spec.method).targets_from:
        # Another run of this plan makes its targets, so it cannot be trained yet.
        return untimed
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            spec, RunDir(Path(folder) / spec.key), matrix.opened, execution, published_start=False
        )
        return dataclasses.replace(untimed, seconds=_seconds_per_step(trainer))


def _seconds_per_step(trainer: Trainer) -> float:
    """Return the least time of a few training steps without the first one, which warms up."""
    from benchmark.data.samples import training_batches

    recipe = trainer.spec.recipe
    seconds = []
    steps = trainer.samples.order(0, recipe.batch_size, recipe.drop_last)[: MEASURED_STEPS + 1]
    trainer.stepper.network.train()
    for batches in training_batches(trainer.samples, 0, steps, recipe.micro_batch, 0, 1, 0):
        started = time.perf_counter()
        trainer.stepper.optimize(batches, 0)
        seconds.append(time.perf_counter() - started)
    # An epoch may have a single step.
    return min(seconds[1:] or seconds)


def total_seconds(planned: Iterable[Planned], at_a_time: int) -> float | None:
    """Return the training time of all runs in seconds, or None if that of a run is not known.

    Args:
        planned: the runs.
        at_a_time: number of runs that are trained at the same time.
    """
    remaining = [run.seconds_left for run in planned]
    return None if None in remaining else sum(remaining) / at_a_time


def total_disk(planned: Iterable[Planned], at_a_time: int) -> tuple[int, int] | None:
    """Return the bytes that runs keep, and those that they take beyond these while they go on.

    Args:
        planned: the runs.
        at_a_time: number of runs that are trained at the same time.

    Returns:
        Both numbers for the runs that are not done, or None if nothing was measured.
    """
    remaining = [run for run in planned if run.status.state != "done"]
    takes = [run.measured for run in remaining if run.measured is not None]
    if len(takes) < len(remaining):
        return None
    under_way = sorted((its.under_way for its in takes), reverse=True)
    return sum(its.kept for its in takes), sum(under_way[:at_a_time])


def duration(seconds: float) -> str:
    """Return seconds in words that a person reads."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
