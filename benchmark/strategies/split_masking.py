"""Masking in separate passes: one that misses patches, and one that misses words.

It is the objective of CM-MaskSD with MaskRIS' masks, so any method can be trained with it. What is
hidden is chosen at random, and is pixels and word pieces instead of embeddings. It is never shown
under the name of CM-MaskSD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from benchmark.strategies.branches import Branch, Branched
from benchmark.strategies.masking import check_image_mask, check_text_mask
from benchmark.strategies.maskris import IMAGE_SETTINGS, TEXT_SETTINGS, MaskRIS
from benchmark.strategies.strategy import MicroBatch

if TYPE_CHECKING:
    from torch import Tensor

    from methods.config import Config, Definition
    from methods.contract import Output


class SplitMasking(Branched):
    """A pass over masked images with whole sentences, and one over whole images with masked ones.

    The masks are MaskRIS' and their defaults the paper's. The weights are CM-MaskSD's.

    Attributes:
        image_weight: weight of the pass with masked images.
        text_weight: weight of the pass with masked sentences.
        image_mask_ratio: as in `MaskRIS`, and so are the settings below.
    """

    image_weight: float = Field(default=0.75, ge=0)
    text_weight: float = Field(default=0.1, ge=0)
    image_mask_ratio: float = Field(default=0.75, ge=0, le=1)
    patch_size: int = Field(default=32, ge=1)
    image_mask_sampling: Literal["patch", "grid", "block", "cutout"] = "patch"
    text_mask_ratio: float = Field(default=0.15, ge=0, le=1)
    text_mask_shares: tuple[float, float, float] = (0.8, 0.1, 0.1)

    def branches(self, micro: MicroBatch, output: Output) -> tuple[list[Branch], dict[str, Tensor]]:
        """Return the two masked passes, in the order of their names."""
        image, text = self.masks()
        return [
            Branch("image", image.masked(micro, keep_targets=True), self.image_weight),
            Branch("text", text.masked(micro, keep_targets=True), self.text_weight),
        ], {}

    def masks(self) -> tuple[MaskRIS, MaskRIS]:
        """Return MaskRIS' masks of images alone, and those of sentences alone."""
        shared = {name: getattr(self, name) for name in IMAGE_SETTINGS | TEXT_SETTINGS}
        # With distillation every sample is masked.
        return tuple(
            MaskRIS(name=what, distillation=True, **{what: True}, **shared)
            for what in ("image_mask", "text_mask")
        )

    def check(self, definition: Definition, config: Config) -> None:
        """Check that the patches divide the input and the shares of masked words add up.

        Raises:
            UserError: they do not.
        """
        check_image_mask(
            config.size, self.patch_size, self.image_mask_ratio, self.image_mask_sampling
        )
        check_text_mask(self.text_mask_ratio, self.text_mask_shares)

    @property
    def passes(self) -> float:
        """The number of passes of a step."""
        return 3

    def describe(self) -> list[str]:
        """Return the masks of both passes, their weights, and what they learn from."""
        image, text = self.masks()
        return [
            f"{image.describe()[0]}, weight {self.image_weight:g}",
            f"{text.describe()[0]}, weight {self.text_weight:g}",
            *self.describe_target(),
        ]

    def notes(self, families: set[str]) -> list[str]:
        """Return what CLIP has in place of [MASK]."""
        return self.masks()[1].notes(families)[1:]


STRATEGIES = (SplitMasking(name="split-masking"),)
