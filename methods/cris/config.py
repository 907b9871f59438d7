"""CRIS' sizes, recipes and description."""

from __future__ import annotations

import functools
import pkgutil
from typing import Any

from methods import departures
from methods.backbones.sizes import RN50, RN101, SMALL_CLIP, TINY_CLIP, ClipConfig
from methods.config import Config, Definition, Recipe, revised

_SCRATCH = (
    departures.from_scratch("CLIP's towers"),
    "backbone_multiplier 1 or 2: towers that start from random weights need the full learning rate"
    " and more",
    departures.CLIP_WORDS,
    departures.KERNEL_GROWS_IN,
)


class CrisConfig(Config):
    """Size of a CRIS network.

    Attributes:
        clip: dimensions of both towers.
        neck: output widths of the three neck levels, from stride 8 to stride 32. The
            middle one is the decoder's width.
        decoder_layers: number of layers of the cross-modal decoder.
        decoder_heads: attention heads of a layer.
        decoder_ffn: channels inside the feed-forward network of a layer.
        dropout: dropout of the decoder. CLIP has none.
        branch_gain: starting weight of the norms behind the decoder's attentions. 1 is
            published. In training from scratch, attention to what means nothing yet is
            noise as large as the signal, and 0 lets it grow in.
        kernel_gain: factor on the starting weights that turn a sentence into its
            convolution kernel. 1 is published. In training from scratch it saturates
            the first logits.
    """

    clip: ClipConfig
    neck: tuple[int, int, int] = (256, 512, 1024)
    decoder_layers: int = 3
    decoder_heads: int = 8
    decoder_ffn: int = 2048
    dropout: float = 0.1
    branch_gain: float = 1.0
    kernel_gain: float = 1.0

    @classmethod
    def published(cls, network: str, size: int = 416, max_length: int = 17) -> CrisConfig:
        """Return the published configuration.

        Args:
            network: CLIP's image tower, `RN50` or `RN101`.
            size: side of the network input, in pixels.
            max_length: ids per sentence, special ones included.
        """
        return cls(
            size=size,
            max_length=max_length,
            clip={"RN50": RN50, "RN101": RN101}[network],
            pretrained=f"openai-{network}",
        )


class MilestoneRecipe(Recipe):
    """A rate that is constant within an epoch and falls at milestones (CRIS, ETRIS).

    Attributes:
        milestones: epochs at whose end the rate is multiplied by `gamma`.
        gamma: factor of the rate at a milestone.
    """

    milestones: tuple[int, ...] = (35,)
    gamma: float = 0.1

    def rate(self, epoch: int) -> float:
        """Return the learning rate in an epoch, counted from 0."""
        passed = sum(epoch >= milestone for milestone in self.milestones)
        return self.learning_rate * self.gamma**passed

    def stretched(self, factor: float) -> dict[str, Any]:
        """Return the changes as `Recipe.stretched` does, with the milestones moved along.

        Milestones are rounded to whole epochs.
        """
        milestones = tuple(round(factor * epoch) for epoch in self.milestones)
        return super().stretched(factor) | {"milestones": milestones}


class CrisRecipe(MilestoneRecipe):
    """CRIS' training schedule.

    Attributes:
        backbone_multiplier: rate of the CLIP towers relative to the rest.
        first_epoch_at_full_rate: whether the first epoch trains the towers at the full
            rate. It does as published, since that code sets `initial_lr` alone.
    """

    backbone_multiplier: float = 0.1
    first_epoch_at_full_rate: bool = True


class CrisDefinition(Definition):
    """The description of CRIS and of ETRIS, which takes CRIS' input."""

    def config_for(self, variant: str, dataset: str) -> Config:
        """Return the variant's configuration.

        The published one takes 22 ids on RefCOCOg, whose sentences are longer, and 17
        elsewhere.
        """
        config = self.variants[variant]
        longer = variant.startswith("paper") and dataset.startswith("refcocog")
        return config.model_copy(update={"max_length": 22}) if longer else config


_PUBLISHED = CrisRecipe(
    epochs=50,
    batch_size=64,
    micro_batch=64,
    learning_rate=1e-4,
    optimizer="adam",
    precision="fp16",
)

DEFINITION = CrisDefinition(
    name="cris",
    load=functools.partial(pkgutil.resolve_name, "methods.cris.method:CRIS"),
    config_type=CrisConfig,
    recipe_type=CrisRecipe,
    text=("clip", "sent"),
    has_published_weights=True,
    # Until revision 2, the position code was not the published one to the last digit.
    # Since 3, attention may round otherwise, but not where a network is tiny.
    revisions=revised(3, "paper", "paper-rn50", "small") | revised(2, "tiny"),
    batch_norm="vectors",
    guides=True,
    variants={
        "paper": CrisConfig.published("RN101"),
        "paper-rn50": CrisConfig.published("RN50"),
        "small": CrisConfig(
            size=224,
            max_length=20,
            clip=SMALL_CLIP.model_copy(update={"text_layers": 4}),
            neck=(128, 256, 512),
            decoder_heads=4,
            decoder_ffn=1024,
            branch_gain=0.0,
            kernel_gain=0.1,
            departures=_SCRATCH,
        ),
        "tiny": CrisConfig(
            size=96,
            max_length=20,
            clip=TINY_CLIP.model_copy(update={"text_layers": 1}),
            neck=(64, 64, 128),
            decoder_layers=2,
            decoder_heads=4,
            decoder_ffn=128,
            dropout=0.0,
            branch_gain=0.0,
            kernel_gain=0.1,
            departures=(
                *_SCRATCH,
                "no dropout in the decoder: a minute of training does not overfit",
            ),
        ),
    },
    recipes={
        "paper": _PUBLISHED,
        "paper-rn50": _PUBLISHED,
        "small": CrisRecipe(
            epochs=20,
            batch_size=64,
            micro_batch=64,
            learning_rate=5e-4,
            optimizer="adam",
            precision="bf16",
            milestones=(16,),
            backbone_multiplier=1.0,
        ),
        "tiny": CrisRecipe(
            epochs=3,
            batch_size=16,
            micro_batch=16,
            learning_rate=8e-4,
            optimizer="adam",
            milestones=(2,),
            gamma=0.5,
            backbone_multiplier=2.0,
        ),
    },
)
