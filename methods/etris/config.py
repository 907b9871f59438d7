"""ETRIS' sizes, recipes and description."""

from __future__ import annotations

import functools
import pkgutil
from typing import TypeAlias

from methods import departures
from methods.backbones.sizes import RN50, RN101, SMALL_CLIP, TINY_CLIP, VIT_B16, ClipConfig
from methods.config import Config, revised
from methods.cris.config import CrisDefinition, MilestoneRecipe

Triple: TypeAlias = tuple[int, int, int]

_CLIPS = {"RN50": RN50, "RN101": RN101, "ViT-B/16": VIT_B16}
_SCRATCH = (
    departures.from_scratch("CLIP's towers"),
    "the towers, frozen as published but for their position tables, are trained: random weights"
    " cannot stay as they are",
    departures.CLIP_WORDS,
    departures.HIGHER_RATE_TOWERS,
    "branch_gain 0 and kernel_gain 0.1: a start from which Bridger, attention and the sentence's"
    " kernel grow in",
)


class EtrisConfig(Config):
    """Size of an ETRIS network.

    Neck and decoder have the text tower's width, since the decoder attends to
    unprojected words.

    Attributes:
        clip: dimensions of both towers. Each is divided into three stages, so a
            transformer's depth is a multiple of 3.
        bridger_width: channels of the Bridger's tokens. 64 is published.
        bridger_heads: attention heads of the Bridger. 4 is published for a ResNet and 8
            for a ViT.
        decoder_layers: number of layers of CRIS' decoder.
        decoder_heads: attention heads of a layer.
        decoder_ffn: channels inside the feed-forward network of a layer.
        dropout: dropout of the decoder and of a ResNet's Bridger. CLIP has none.
        branch_gain: starting weight of the norms behind the decoder's attentions, as in
            CRIS. It also scales what the Bridger adds to the towers. 1 is published.
        kernel_gain: factor on the starting weights of the sentence's kernel, as in CRIS.
            1 is published.
    """

    clip: ClipConfig
    bridger_width: int = 64
    bridger_heads: int = 4
    decoder_layers: int = 3
    decoder_heads: int = 8
    decoder_ffn: int = 512
    dropout: float = 0.1
    branch_gain: float = 1.0
    kernel_gain: float = 1.0

    @classmethod
    def published(cls, network: str, size: int = 416, max_length: int = 17) -> EtrisConfig:
        """Return the published configuration.

        Args:
            network: CLIP's image tower, `RN50`, `RN101` or `ViT-B/16`.
            size: side of the network input, in pixels.
            max_length: ids per sentence, special ones included.
        """
        clip = _CLIPS[network]
        if clip.vit:
            # The position table of a ViT is resized once, to the input's own grid.
            clip = clip.model_copy(update={"image_size": size})
        return cls(
            size=size,
            max_length=max_length,
            clip=clip,
            bridger_heads=8 if clip.vit else 4,
            pretrained=f"openai-{network.replace('/', '-')}",
        )

    @property
    def channels(self) -> Triple:
        """Channels of the image tower's three stages."""
        width = self.clip.width
        return (width,) * 3 if self.clip.vit else (8 * width, 16 * width, 32 * width)

    @property
    def scales(self) -> Triple:
        """Factors that bring the three stages' maps to stride 16.

        The first map of a ResNet goes down, the second stays and the third goes up. Those
        of a ViT are at stride 16 already.
        """
        return (1, 1, 1) if self.clip.vit else (2, 1, 2)


class EtrisRecipe(MilestoneRecipe):
    """ETRIS' training schedule.

    Attributes:
        freeze_backbone: whether both towers run untrained, but for their position
            tables. Their BatchNorm still uses and tracks batch statistics, as published.
    """

    freeze_backbone: bool = True


_PUBLISHED = EtrisRecipe(
    epochs=50,
    batch_size=32,
    micro_batch=32,
    learning_rate=1e-4,
    optimizer="adam",
    precision="fp16",
)

DEFINITION = CrisDefinition(
    name="etris",
    load=functools.partial(pkgutil.resolve_name, "methods.etris.method:ETRIS"),
    config_type=EtrisConfig,
    recipe_type=EtrisRecipe,
    text=("clip", "sent"),
    has_published_weights=True,
    # Until revision 2, the position code of CRIS was not the published one to the last digit.
    # Since 3, attention may round otherwise, but not where a network is tiny.
    revisions=revised(3, "paper", "paper-rn50", "paper-vitb16", "small") | revised(2, "tiny"),
    batch_norm="maps",
    guides=True,
    variants={
        "paper": EtrisConfig.published("RN101"),
        "paper-rn50": EtrisConfig.published("RN50"),
        "paper-vitb16": EtrisConfig.published("ViT-B/16"),
        "small": EtrisConfig(
            size=224,
            max_length=20,
            clip=SMALL_CLIP,
            decoder_heads=4,
            branch_gain=0.0,
            kernel_gain=0.1,
            departures=_SCRATCH,
        ),
        "tiny": EtrisConfig(
            size=96,
            max_length=20,
            clip=TINY_CLIP,
            bridger_width=32,
            bridger_heads=2,
            decoder_layers=1,
            decoder_heads=4,
            decoder_ffn=128,
            dropout=0.0,
            branch_gain=0.0,
            kernel_gain=0.1,
            departures=(*_SCRATCH, "no dropout: a minute of training does not overfit"),
        ),
    },
    recipes={
        "paper": _PUBLISHED,
        "paper-rn50": _PUBLISHED,
        "paper-vitb16": _PUBLISHED,
        "small": EtrisRecipe(
            epochs=20,
            batch_size=64,
            micro_batch=64,
            learning_rate=5e-4,
            optimizer="adam",
            precision="bf16",
            milestones=(16,),
            freeze_backbone=False,
        ),
        "tiny": EtrisRecipe(
            epochs=3,
            batch_size=16,
            micro_batch=16,
            learning_rate=4e-4,
            optimizer="adam",
            milestones=(2,),
            gamma=0.5,
            freeze_backbone=False,
        ),
    },
)
