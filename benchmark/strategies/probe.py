"""The loss on original and on masked inputs while a run is trained (the paper's Fig. B).

It is measured beside the training. The masks are the paper's and the same for every strategy, so
that the curves of strategies can be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.strategies.maskris import MaskRIS
from benchmark.strategies.strategy import MicroBatch, frozen_running_statistics

if TYPE_CHECKING:
    from torch import Tensor

PAPER_PATCHES = 14
"""Patches along a side in the paper, which has 448 pixels and patches of 32."""


def probe_masks(size: int) -> MaskRIS:
    """Return the masks of `probe` for an input of `size` pixels a side.

    The patch size is the divisor of `size` that is nearest to a fourteenth of it.
    """
    divisors = (side for side in range(1, size + 1) if size % side == 0)
    patch = min(divisors, key=lambda side: abs(side - size / PAPER_PATCHES))
    return MaskRIS(
        name="probe", image_mask=True, text_mask=True, distillation=True, patch_size=patch
    )


def probe(micro: MicroBatch, masks: MaskRIS) -> dict[str, Tensor]:
    """Return the method's loss on a training micro-batch, original and masked, in train mode.

    The training does not notice it. It leaves no gradient and no running statistics behind, and
    every random number of a step is keyed by itself.

    Returns:
        `probe/loss_original` and `probe/loss_masked`, each a scalar.
    """
    import torch

    losses = {}
    with torch.no_grad(), frozen_running_statistics(micro.method):
        masked = masks.masked(micro, keep_targets=True)
        for name, batch in (("original", micro.batch), ("masked", masked)):
            _, _, losses[f"probe/loss_{name}"] = micro.supervised(batch, name)
    return losses
