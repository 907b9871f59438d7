"""A strategy decides how a training step uses its samples. It never knows which method it drives.

A strategy has settings, which stand in the run's key. It also has a step, which handles one
micro-batch in as many forward and backward passes as it likes. The trainer then clips and updates
once for the sum of all gradients, so that several passes need no more memory than one. A strategy
also says how tables name and describe it.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_serializer

from benchmark.base.errors import UserError
from benchmark.base.rng import generator, reseed_dropout
from benchmark.strategies import frozen

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from benchmark.data.samples import RawBatch
    from benchmark.data.tokenizers import Tokenizer
    from methods.config import Config, Definition, Purpose
    from methods.contract import Batch, Method, Output


@dataclasses.dataclass(frozen=True)
class Limit:
    """What the mean of a logged value must lie between for a strategy to do what it is named for.

    Attributes:
        name: of the value, as it is logged.
        what: it is, in words.
        low: least mean, a fraction.
        high: greatest mean, a fraction.
        below: what a lower mean means, in words.
        above: what a higher mean means, in words.
    """

    name: str
    what: str
    low: float
    high: float
    below: str
    above: str


class Described(BaseModel):
    """What tables say of the strategy of a run, or of masks that were made elsewhere.

    Its fields are its settings, and they are part of the run's key.

    Attributes:
        name: what commands, presets and keys call it.
        revision: must be raised when a fix changes its numbers.
        is_reference: whether others are compared with it, as with the baseline.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    is_reference: ClassVar[bool] = False

    name: str
    revision: int = 1

    @property
    def heading(self) -> str:
        """What tables call it."""
        return f"+{self.name}"

    @classmethod
    def settings(cls) -> set[str]:
        """Return the names of its own fields."""
        return set(cls.model_fields) - {"name", "revision"}

    def key_fields(self) -> dict[str, Any]:
        """Return name, settings and revision as they stand in the run's spec, and so in its key."""
        own = {
            name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            # A setting that was `added` later, and has its default, is no part of a key.
            if name in self.settings()
            and not (field.exclude_if and field.exclude_if(getattr(self, name)))
        }
        if self.name in frozen.NAMES:
            return frozen.key_fields(self.name, own, self.revision)
        return {"name": self.name, **own, "revision": self.revision}

    @model_serializer
    def _serialized(self) -> dict[str, Any]:
        return self.key_fields()

    def describe(self) -> list[str]:
        """Return in words what it does with its settings, for the definitions under a table."""
        return []

    def notes(self, families: set[str]) -> list[str]:
        """Return what a reader of any table with it must know.

        Args:
            families: tokenizer families of the table's methods, of `bert` and `clip`.
        """
        return []

    def limits(self) -> list[Limit]:
        """Return what reports warn of in a run's training."""
        return []


class Strategy(Described, abc.ABC):
    """One way of using the samples of a training step."""

    @property
    def passes(self) -> float:
        """The cost of a step in passes with their backward, of which the baseline has one."""
        return 1

    def tunable(self) -> set[str]:
        """Return the settings that presets, grids and searches may change.

        They are those that make a difference to it.
        """
        return self.settings()

    def read(self, values: Mapping[str, Any]) -> Strategy:
        """Return the strategy of this kind that the fields of a spec describe.

        Raises:
            ValueError: the fields are not those of this kind. Pydantic's errors are ValueErrors.
        """
        own = dict(values)
        if self.name in frozen.NAMES:
            own = frozen.own_settings(values, self.settings())
        return type(self).model_validate(own)

    def check(self, definition: Definition, config: Config) -> None:
        """Check that it can drive a method of this size.

        Raises:
            UserError: a setting does not fit. The message says which values would.
        """

    @abc.abstractmethod
    def step(self, micro: MicroBatch) -> dict[str, Tensor]:
        """Add the gradients of one micro-batch by `micro.backward`, and return its losses.

        Returns:
            name -> detached scalar without the weight of the micro-batch. `train/loss` is what is
            minimized. Others are logged as `train/<name>`.
        """


@dataclasses.dataclass
class MicroBatch:
    """Samples that pass through the network together, and all that a strategy may do with them.

    Attributes:
        network: is called for a pass. It is the method, or its DDP or compiled wrapper.
        method: the method itself.
        samples: the samples on the CPU, before they are normalised.
        tokenizer: made the ids of the samples.
        seed: of the run. With the epoch, a purpose and a sample it keys every random number.
        epoch: counts from 0.
        key: of the optimizer step and micro-batch. With the name of a pass it keys dropout, which
            passes do not share.
        share: this micro-batch's share of the step's loss, times the recipe's loss scale.
        add_gradient: adds the gradient of a loss.
        device: of the network.
    """

    network: Callable[..., Output]
    method: Method
    samples: RawBatch
    tokenizer: Tokenizer
    seed: int
    epoch: int
    key: tuple[object, ...]
    share: float
    add_gradient: Callable[[Tensor], None]
    device: torch.device

    def rng(self, purpose: str, sample: int) -> np.random.Generator:
        """Return the generator of one sample's random numbers for a purpose.

        It does not depend on the other samples of the micro-batch.
        """
        return generator(self.seed, purpose, self.epoch, sample)

    @functools.cached_property
    def batch(self) -> Batch:
        """The samples as the network takes them, on its device, with nothing hidden."""
        return self.samples.prepare(self.method.needs, self.device)

    @functools.cached_property
    def noise(self) -> dict[str, Tensor]:
        """The method's own noise (SaG's slots), which all passes share."""
        drawn = self.method.draws([self.rng("draws", sample) for sample in self.samples.samples])
        return {name: value.to(self.device, non_blocking=True) for name, value in drawn.items()}

    def forward(self, batch: Batch, purpose: Purpose, name: str) -> Output:
        """Return the network's output for `batch` in one pass.

        Args:
            batch: what the network is given.
            purpose: `loss` or `prediction`.
            name: of the pass. It keys the dropout of the pass, so a micro-batch uses a name once.
        """
        from methods.precision import computed_in

        # The noise is drawn before dropout is seeded, so that it cannot move dropout's stream.
        noise = self.noise
        reseed_dropout(*self.key, name)
        with computed_in(self.method.precision, self.device):
            return self.network(batch, noise, purpose)

    def backward(self, loss: Tensor, weight: float = 1.0) -> None:
        """Add the gradient of `weight` times a loss of this micro-batch."""
        self.add_gradient(weight * self.share * loss)

    def supervised(
        self, batch: Batch, name: str = "clean pass"
    ) -> tuple[Output, dict[str, Tensor], Tensor]:
        """Return output, terms and sum of the method's own loss for `batch`.

        Nothing is added to the gradients yet.
        """
        output = self.forward(batch, "loss", name)
        terms = self.method.loss(output, batch)
        return output, terms, sum(terms.values())

    def with_samples(self, samples: RawBatch) -> MicroBatch:
        """Return the same micro-batch with changed samples."""
        return dataclasses.replace(self, samples=samples)


def require_guides(definition: Definition, strategy: str) -> None:
    """Check that a method hands out aligned features, by which a strategy chooses what to hide.

    Raises:
        UserError: it does not.
    """
    if not definition.guides:
        raise UserError(
            f"the strategy {strategy} chooses what to hide by features that the method"
            f" {definition.name} does not hand out: leave the pair out, or make the method a"
            " GuidedMethod (see docs/extending.md)."
        )


def logged(total: Tensor, terms: Mapping[str, Tensor], **more: Tensor) -> dict[str, Tensor]:
    """Return losses by the names under which they are logged.

    Args:
        total: what is minimized.
        terms: the terms of the method's own loss.
        more: what the strategy adds.
    """
    named = {"train/loss": total}
    named |= {f"train/loss_{name}": term.detach() for name, term in terms.items()}
    return named | {f"train/{name}": value.detach() for name, value in more.items()}


def running_statistics(
    network: nn.Module, updated: bool
) -> contextlib.AbstractContextManager[None]:
    """Let BatchNorm update its running statistics in a pass, or keep the pass out of them."""
    return contextlib.nullcontext() if updated else frozen_running_statistics(network)


@contextlib.contextmanager
def frozen_running_statistics(network: nn.Module) -> Iterator[None]:
    """Let BatchNorm normalise by batch statistics without touching its running ones."""
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    # Without tracking, train mode uses batch statistics and leaves the running ones as they are.
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, track in zip(norms, tracked, strict=True):
            norm.track_running_stats = track
