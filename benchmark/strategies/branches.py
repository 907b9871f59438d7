"""A clean pass at full weight, and branches beside it that each hide something.

It is the objective of CM-MaskSD (IEEE TMM 2024, Eq. 9):

    L = L_ce(M, truth) + sum over branches of weight * L_branch(M_branch, target)

The target is the clean pass' own prediction, or the ground truth. Unlike MaskRIS' Eq. 5 the clean
pass keeps the weight 1, whatever the branches weigh.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Literal

from benchmark.strategies.maskris import detached
from benchmark.strategies.strategy import MicroBatch, Strategy, logged, running_statistics

if TYPE_CHECKING:
    from torch import Tensor

    from methods.contract import Batch, Output


@dataclasses.dataclass
class Branch:
    """One further pass of a step.

    Attributes:
        name: of the branch. Its loss is logged as `train/loss_<name>`.
        batch: what the pass sees, with the targets of the samples.
        weight: of its loss.
    """

    name: str
    batch: Batch
    weight: float


class Branched(Strategy):
    """A strategy of a clean pass and branches.

    Attributes:
        target: what the branches learn from: `teacher` is the detached soft prediction of the clean
            pass, and `truth` the ground truth by the method's own loss.
        batchnorm_in_masked_pass: whether the branches update BatchNorm's running statistics. No
            paper says.
    """

    target: Literal["teacher", "truth"] = "teacher"
    batchnorm_in_masked_pass: bool = True

    @abc.abstractmethod
    def branches(self, micro: MicroBatch, output: Output) -> tuple[list[Branch], dict[str, Tensor]]:
        """Return the branches of a step, and further scalars to log.

        Args:
            micro: the samples.
            output: of the clean pass, detached, with purpose "loss".
        """

    def step(self, micro: MicroBatch) -> dict[str, Tensor]:
        """Add the gradients of all passes. Each is followed by its backward."""
        output, terms, loss_ce = micro.supervised(micro.batch)
        teacher = detached(output)
        micro.backward(loss_ce)
        del output
        total = loss_ce.detach()
        branches, more = self.branches(micro, teacher)
        for branch in branches:
            with running_statistics(micro.method, self.batchnorm_in_masked_pass):
                loss = self._loss(micro, branch, teacher)
            micro.backward(loss, branch.weight)
            total = total + branch.weight * loss.detach()
            more[f"loss_{branch.name}"] = loss
        return logged(total, terms, loss_ce=loss_ce, **more)

    def _loss(self, micro: MicroBatch, branch: Branch, teacher: Output) -> Tensor:
        if self.target == "truth":
            return micro.supervised(branch.batch, branch.name)[2]
        # The branch gets no target at all, so it learns from the teacher alone.
        batch = dataclasses.replace(branch.batch, targets=None)
        student = micro.forward(batch, "prediction", branch.name)
        return micro.method.distillation(student, teacher)

    def describe_target(self) -> list[str]:
        """Return what the branches learn from, in words."""
        what = {"teacher": "the clean pass' prediction", "truth": "the ground truth"}
        updates = "update" if self.batchnorm_in_masked_pass else "do not update"
        return [
            f"the branches learn from {what[self.target]}",
            f"the branches {updates} BatchNorm's running statistics",
        ]
