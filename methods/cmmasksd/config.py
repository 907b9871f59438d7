"""CM-MaskSD's sizes, recipes and description."""

from __future__ import annotations

import functools
import math
import pkgutil
from typing import Any

from pydantic import Field

from methods import departures
from methods.backbones.sizes import VIT_B16, VIT_L14, VIT_PATCH, ClipConfig
from methods.config import Recipe, revised
from methods.cris.config import CrisConfig, CrisDefinition

_SCRATCH = (
    departures.from_scratch("CLIP's towers"),
    "relevance comes from towers that start from random weights, so what is hidden is at first"
    " chosen by noise",
    departures.CLIP_WORDS,
    departures.HIGHER_RATE_TOWERS,
    departures.KERNEL_GROWS_IN,
)


class CMMaskSDConfig(CrisConfig):
    """Size of a CM-MaskSD network, which is CRIS' on a ViT.

    `clip` has a ViT in three stages, so its depth is a multiple of 3. Where a field of CRIS
    says that 1 is published, the paper says nothing else.

    Attributes:
        patch: side of the ViT's patches, in pixels.
    """

    patch: int = VIT_PATCH

    @classmethod
    def published(cls, network: str, size: int, max_length: int = 17) -> CMMaskSDConfig:
        """Return the published configuration.

        Args:
            network: CLIP's image tower, `ViT-B/16` or `ViT-L/14`.
            size: side of the network input, in pixels.
            max_length: ids per sentence, special ones included.
        """
        # The position table of the ViT is resized once, to the input's own grid.
        clip = {"ViT-B/16": VIT_B16, "ViT-L/14": VIT_L14}[network]
        clip = clip.model_copy(update={"image_size": size})
        own: dict[str, Any] = {}
        if network == "ViT-L/14":
            # The paper does not say how neck and decoder follow the larger tower. With CRIS'
            # ratios the words stay unprojected.
            own = {"patch": 14, "neck": (384, 768, 1536), "decoder_heads": 12, "decoder_ffn": 3072}
        pretrained = f"openai-{network.replace('/', '-')}"
        return cls(size=size, max_length=max_length, clip=clip, pretrained=pretrained, **own)


class CMMaskSDRecipe(Recipe):
    """CM-MaskSD's training schedule.

    Attributes:
        warmup_epochs: epochs over which the rate grows linearly from 0. After them it
            falls to 0 as a half cosine.
    """

    warmup_epochs: int = Field(default=10, ge=0)

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate at a step, counted from 0."""
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return self.learning_rate * step / warmup
        remaining = max(1, self.epochs * steps_per_epoch - warmup)
        turned = min(1.0, (step - warmup) / remaining)
        return self.learning_rate * (1 + math.cos(math.pi * turned)) / 2

    def stretched(self, factor: float) -> dict[str, Any]:
        """Return the changes as `Recipe.stretched` does, with the warm-up moved along.

        The warm-up is rounded to whole epochs.
        """
        return super().stretched(factor) | {"warmup_epochs": round(factor * self.warmup_epochs)}


_CHOICES = (
    "The neck reads the maps after a third, two thirds and all of the ViT's blocks. They have one"
    " size, so none is resampled.",
    "With ViT-L/14, neck and decoder have CRIS' ratios.",
    "One group of parameters has one rate and decays as a whole. The rate warms up from 0, falls as"
    " a cosine to 0, and gradients are not clipped.",
    "Letterbox, cleaned sentences, one sentence per ref and epoch, CLIP's mean and deviation, the"
    " decoder's dropout of 0.1 and fp16 are CRIS'.",
    "The paper's network has 207 M parameters at 480 pixels and what it describes has 190 M, which"
    " is what is built.",
)
_PUBLISHED = CMMaskSDRecipe(
    epochs=100,
    batch_size=32,
    micro_batch=32,
    learning_rate=1e-5,
    weight_decay=5e-4,
    optimizer="adam",
    precision="fp16",
)

DEFINITION = CrisDefinition(
    name="cmmasksd",
    load=functools.partial(pkgutil.resolve_name, "methods.cmmasksd.method:CMMaskSD"),
    config_type=CMMaskSDConfig,
    recipe_type=CMMaskSDRecipe,
    text=("clip", "sent"),
    has_published_weights=True,
    batch_norm="vectors",
    guides=True,
    hides=True,
    choices=_CHOICES,
    # Since revision 2, evaluation does not take torch's fused kernel, which rounds otherwise.
    revisions=revised(2, "paper", "paper-480", "paper-vitl14", "small", "tiny"),
    variants={
        "paper": CMMaskSDConfig.published("ViT-B/16", 576),
        "paper-480": CMMaskSDConfig.published("ViT-B/16", 480),
        "paper-vitl14": CMMaskSDConfig.published("ViT-L/14", 532),
        "small": CMMaskSDConfig(
            size=224,
            max_length=20,
            clip=ClipConfig(
                embed=512,
                layers=6,
                width=384,
                image_size=224,
                text_width=256,
                text_heads=4,
                text_layers=4,
                context=32,
            ),
            neck=(128, 256, 512),
            decoder_heads=4,
            decoder_ffn=1024,
            branch_gain=0.0,
            kernel_gain=0.1,
            departures=_SCRATCH,
        ),
        "tiny": CMMaskSDConfig(
            size=96,
            max_length=20,
            clip=ClipConfig(
                embed=128,
                layers=3,
                width=128,
                image_size=96,
                text_width=64,
                text_heads=4,
                text_layers=1,
                context=20,
            ),
            patch=12,
            neck=(64, 64, 128),
            decoder_layers=2,
            decoder_heads=4,
            decoder_ffn=128,
            dropout=0.0,
            branch_gain=0.0,
            kernel_gain=0.1,
            departures=(
                *_SCRATCH,
                "patches of 12 pixels, so that a small object covers some",
                "no dropout in the decoder: a minute of training does not overfit",
            ),
        ),
    },
    recipes={
        "paper": _PUBLISHED,
        "paper-480": _PUBLISHED,
        "paper-vitl14": _PUBLISHED,
        "small": CMMaskSDRecipe(
            epochs=20,
            batch_size=64,
            micro_batch=64,
            learning_rate=5e-4,
            weight_decay=0.0,
            optimizer="adam",
            precision="bf16",
            warmup_epochs=2,
        ),
        "tiny": CMMaskSDRecipe(
            epochs=3,
            batch_size=16,
            micro_batch=16,
            learning_rate=8e-4,
            weight_decay=0.0,
            optimizer="adam",
            warmup_epochs=0,
        ),
    },
)
