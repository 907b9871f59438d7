"""The loss on original and on masked inputs while a run is trained (the paper's Fig. B): measured beside the training.

The masks are the paper's and the same for every strategy, so that the curves of strategies compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.strategies.maskris import MaskRIS
from benchmark.strategies.strategy import MicroBatch, frozen_running_statistics

if TYPE_CHECKING:
    from torch import Tensor

PAPER_PATCHES = 14
"""Patches a side in the paper: 448 pixels of 32."""


def probe_masks(size: int) -> MaskRIS:
    """Return the masks of `probe` at an input of side `size`: the patch that divides it and is nearest to a fourteenth."""
    divisors = (side for side in range(1, size + 1) if size % side == 0)
    patch = min(divisors, key=lambda side: abs(side - size / PAPER_PATCHES))
    return MaskRIS(
        name="probe", image_mask=True, text_mask=True, distillation=True, patch_size=patch
    )


def probe(micro: MicroBatch, masks: MaskRIS) -> dict[str, Tensor]:
    """Return the method's loss on a training micro-batch, original and masked, in train mode.

    It leaves nothing behind: no gradient and no running statistics, and every random number of a step is keyed by itself.
    """
    import torch

    losses = {}
    with torch.no_grad(), frozen_running_statistics(micro.method):
        for name, seen in (
            ("original", micro.batch),
            ("masked", masks.masked(micro, keep_targets=True)),
        ):
            _, _, losses[f"probe/loss_{name}"] = micro.supervised(seen, name)
    return losses
