"""The baseline trains a method as published, with one pass over the samples as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from benchmark.strategies.strategy import MicroBatch, Strategy, logged

if TYPE_CHECKING:
    from torch import Tensor


class Baseline(Strategy):
    """The published training step.

    It has no settings, so its runs keep their keys whatever is changed for other strategies.
    """

    is_reference: ClassVar[bool] = True

    @property
    def heading(self) -> str:
        """What tables call it."""
        return self.name

    def step(self, micro: MicroBatch) -> dict[str, Tensor]:
        """Add the gradient of the method's own loss."""
        _, terms, loss = micro.supervised(micro.batch)
        micro.backward(loss)
        return logged(loss.detach(), terms, loss_ce=loss)


STRATEGIES = (Baseline(name="baseline"),)
