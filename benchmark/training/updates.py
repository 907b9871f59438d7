"""The optimizer step after the passes of a batch, which is taken only if all numbers are finite.

A number that is not finite would reach every weight by one step, and every resume point after it.
Under fp16 it comes now and then, since the loss is scaled as high as it can be. Such a step is
skipped, as in the published code, and the scale is lowered. In any other precision it means that
the training diverges. The device decides whether a step is taken, so that it need not be waited
for. What it decided is judged when the numbers of the step are fetched.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.runs.spec import RunSpec

MOST_IN_A_ROW = 20  # The scale is a millionth by then, so it is not what is too high.


class Updates:
    """Takes the optimizer steps of a run.

    Args:
        spec: the spec of the run.
        network: what is trained.
        optimizer: over the parameters of the network.
        device: of the network.

    Attributes:
        skipped: the number of steps that were skipped so far, of those that were judged.
        in_a_row: the number of the last steps that were all skipped.
    """

    def __init__(
        self,
        spec: RunSpec,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
    ) -> None:
        self.spec = spec
        self.network = network
        self.optimizer = optimizer
        self.scales = spec.recipe.precision == "fp16"
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.scales)
        self.skipped = 0
        self.in_a_row = 0
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def add_gradient(self, loss: Tensor) -> None:
        """Add the gradient of a loss, which is scaled under fp16."""
        self.scaler.scale(loss).backward()

    def begin(self) -> None:
        """Remember what the passes of a step change, before the first of them."""
        if self.scales:
            # The passes move BatchNorm's running statistics, whether or not a step follows.
            self._buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]

    def take(self, loss: Tensor) -> Tensor:
        """Take the step for the gradients that were added, unless a number is not finite.

        The device decides by itself, as `GradScaler` lets it, and nothing waits for it. A step that
        is not taken leaves the parameters as they were and, under fp16, the buffers, too.

        Args:
            loss: of the whole batch, a scalar on the device of the network.

        Returns:
            float64 (2,), on the device: 1 if the step was taken and else 0, and the global norm of
            the gradients before they were clipped, which is 0 where nothing needed it. `judge`
            is told both.
        """
        taken, norm = self._scaled(loss) if self.scales else self._plain(loss)
        self.optimizer.zero_grad()
        for buffer, before in self._buffers:
            buffer.copy_(torch.where(taken, buffer, before))
        return torch.stack([taken.double(), norm.double()])

    def judge(self, taken: bool, loss: float, norm: float, step: int) -> None:
        """Count a step that was skipped, or say that the training diverges.

        Args:
            taken: what `take` returned of the step.
            loss: what `take` was given for it.
            norm: what `take` returned of it.
            step: number of the step, from 0, which a message names.

        Raises:
            UserError: a number was not finite, and it is not fp16 or the step is the last of
                `MOST_IN_A_ROW` in a row.
        """
        self.in_a_row = 0 if taken else self.in_a_row + 1
        if taken:
            return
        self.skipped += 1
        if not self.scales:
            is_loss = not math.isfinite(loss)
            what = f"the loss became {loss}" if is_loss else f"the gradients became {norm}"
            raise self._diverged(f"{what} at step {step}")
        if self.in_a_row >= MOST_IN_A_ROW:
            raise self._diverged(
                f"{self.in_a_row} steps in a row had a loss or gradients that are not finite, the"
                f" last at step {step}"
            )

    def _plain(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        norm = self._clip()
        finite = loss.isfinite() & norm.isfinite()
        # Torch's fused optimizers read this attribute, by which `GradScaler` gates a step, too.
        self.optimizer.found_inf = (~finite).float()
        self.optimizer.step()
        del self.optimizer.found_inf
        return finite, norm

    def _scaled(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        norm = loss.new_zeros(())
        one = torch.ones((), device=loss.device)
        before = self.scaler.scale(one)
        # The scaler looks at gradients alone, and a loss may be infinite where they are not.
        gradient = next(its.grad for its in self.network.parameters() if its.grad is not None)
        gradient.masked_fill_(~loss.isfinite(), math.nan)
        if self.spec.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            norm = self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # A fused optimizer looks at the gradients in its own kernel, so only the scale tells.
        return self.scaler.scale(one) >= before, norm

    def _clip(self) -> Tensor:
        """Clip the gradients if the recipe says so, and return their global norm before that."""
        norm = self.spec.recipe.clip_norm
        if norm is not None:
            return nn.utils.clip_grad_norm_(self.network.parameters(), norm)
        gradients = [its.grad for its in self.network.parameters() if its.grad is not None]
        return nn.utils.get_total_norm(gradients)

    def _diverged(self, what: str) -> UserError:
        recipe = self.spec.recipe
        other = "" if recipe.precision == "fp32" else " or use precision fp32"
        return UserError(
            f"the training of run {self.spec.key} diverged, since {what}: lower"
            f" recipe.learning_rate (now {recipe.learning_rate:g}){other}, and start it again."
        )

    def counts(self) -> dict[str, float]:
        """Return what the metrics say of skipped steps, which only fp16 has."""
        return {"train/skipped_steps": self.skipped} if self.scales else {}

    def state(self) -> dict[str, Any]:
        """Return what a resume point holds."""
        # "scaler" is wire format: resume points of earlier versions have it, and not the others.
        return {
            "scaler": self.scaler.state_dict(),
            "skipped": self.skipped,
            "skipped_in_a_row": self.in_a_row,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of an earlier session."""
        if self.scales and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.skipped = state.get("skipped", 0)
        self.in_a_row = state.get("skipped_in_a_row", 0)
