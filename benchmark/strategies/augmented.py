"""Conventional augmentation, which the MaskRIS paper compares with (Fig. 2): crop, flip, jitter.

The published step runs on samples whose image and mask are changed and whose sentence stays as it
is. Flipping an image whose sentence says "left" makes the sentence wrong. That is the paper's
point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from benchmark.strategies.strategy import MicroBatch, Strategy, logged

if TYPE_CHECKING:
    from torch import Tensor


class Augmented(Strategy):
    """The published step on augmented samples.

    Attributes:
        augmentations: are applied in this order to image and mask alike. The paper gives no
            settings for them, so they have torchvision's usual ones (see `augmentation`).
    """

    augmentations: tuple[Literal["crop", "flip", "jitter"], ...] = Field(min_length=1)

    def tunable(self) -> set[str]:
        """Return no setting, because the name of such a strategy says all."""
        return set()

    def describe(self) -> list[str]:
        """Return its augmentations."""
        return [f"augmentations of image and mask: {', '.join(self.augmentations)}"]

    def step(self, micro: MicroBatch) -> dict[str, Tensor]:
        """Add the gradient of the method's own loss on the augmented samples."""
        # Imported here because torchvision takes a second, for which tables need not wait.
        from benchmark.strategies.augmentation import augment

        micro = micro.with_samples(
            augment(micro.samples, self.augmentations, micro.seed, micro.epoch)
        )
        _, terms, loss = micro.supervised(micro.batch)
        micro.backward(loss)
        return logged(loss.detach(), terms, loss_ce=loss)


STRATEGIES = (
    Augmented(name="crop", augmentations=("crop",)),
    Augmented(name="flip", augmentations=("flip",)),
    Augmented(name="jitter", augmentations=("jitter",)),
    Augmented(name="crop-flip-jitter", augmentations=("crop", "flip", "jitter")),
)
