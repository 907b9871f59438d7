"""Sizes, recipes and description of TRIS' first step."""

from __future__ import annotations

import functools
import pkgutil

from pydantic import BaseModel, ConfigDict

from methods import departures
from methods.backbones.sizes import RN50, SMALL_CLIP, TINY_CLIP, ClipConfig
from methods.config import Config, Definition, PolynomialRecipe, revised

_SCRATCH = (
    departures.from_scratch("CLIP's towers"),
    "the auxiliary is not OpenAI's ViT-B/32 but a small CLIP, first trained on whole training"
    " images and their sentences",
    departures.full_rate("towers"),
    departures.CLIP_WORDS,
    departures.HIGHER_RATE,
)


class AuxiliaryTraining(BaseModel):
    """How an auxiliary without published weights is trained.

    Attributes:
        epochs: passes over the training samples.
        batch_size: pairs of image and sentence that are told from each other.
        learning_rate: rate at the start, from which it falls to 0 linearly.
        weight_decay: decay of AdamW.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.1


class AuxiliaryConfig(ClipConfig):
    """Dimensions of the auxiliary, a CLIP with a ViT. The defaults are ViT-B/32's.

    Attributes:
        image_size: side that images and maps are resized to, in pixels.
        patch: side of the ViT's patches, in pixels.
        training: how the auxiliary is trained, or None where it has published weights.
    """

    embed: int = 512
    layers: int = 12
    width: int = 768
    patch: int = 32
    training: AuxiliaryTraining | None = None


class TrisConfig(Config):
    """Size and loss of a TRIS network.

    The defaults are the published ones, with the loss of the code's first release.

    Attributes:
        clip: dimensions of both towers.
        auxiliary: dimensions of the frozen CLIP that the loss asks.
        hidden: joint width C of image and text.
        prompt_scale: how much of the bilateral prompt is added to either side.
        foreground_weight: weight of the loss on what an own map leaves visible.
        classification_weight: weight of the loss on which text is the image's.
        negative_weight: weight of the loss against what is said of others.
        negatives: sentences of other referents per sample, in the third loss.
    """

    clip: ClipConfig = RN50
    auxiliary: AuxiliaryConfig = AuxiliaryConfig()
    hidden: int = 1024
    prompt_scale: float = 0.1
    foreground_weight: float = 2.0
    classification_weight: float = 5.0
    negative_weight: float = 1.0
    negatives: int = 6


class TrisRecipe(PolynomialRecipe):
    """TRIS' training schedule.

    Attributes:
        backbone_multiplier: rate of the CLIP towers relative to the rest.
    """

    backbone_multiplier: float = 0.1
    drop_last: bool = False


_PAPER = TrisConfig(size=320, max_length=20, pretrained="openai-RN50+openai-ViT-B-32")
_PUBLISHED = TrisRecipe(
    epochs=15,
    batch_size=48,
    micro_batch=48,
    learning_rate=5e-5,
    weight_decay=1e-2,
    optimizer="adamw",
)

DEFINITION = Definition(
    name="tris",
    load=functools.partial(pkgutil.resolve_name, "methods.tris.method:TRIS"),
    config_type=TrisConfig,
    recipe_type=TrisRecipe,
    text=("clip", "sent"),
    weakly_supervised=True,
    couples_batch=True,
    stage="step 1",
    has_published_weights=True,
    guides=True,
    batch_norm="maps",
    draws_negatives=True,
    # Since revision 2, what the auxiliary says of a sentence is computed apart from its batch.
    revisions=revised(2, "paper", "paper-head", "small", "tiny"),
    variants={
        "paper": _PAPER,
        # The losses of the code's last state, three months after its first release.
        "paper-head": _PAPER.model_copy(
            update={"foreground_weight": 1.0, "negative_weight": 2.0, "negatives": 3}
        ),
        "small": TrisConfig(
            size=224,
            max_length=20,
            clip=SMALL_CLIP,
            auxiliary=AuxiliaryConfig(
                embed=256,
                layers=6,
                width=192,
                patch=16,
                text_width=256,
                text_heads=4,
                text_layers=4,
                context=32,
                training=AuxiliaryTraining(epochs=10, batch_size=128, learning_rate=5e-4),
            ),
            hidden=512,
            departures=_SCRATCH,
        ),
        "tiny": TrisConfig(
            size=96,
            max_length=20,
            clip=TINY_CLIP,
            auxiliary=AuxiliaryConfig(
                embed=64,
                layers=2,
                width=64,
                image_size=64,
                patch=16,
                text_width=64,
                text_heads=4,
                text_layers=2,
                context=20,
                training=AuxiliaryTraining(epochs=3, batch_size=32, learning_rate=1e-3),
            ),
            hidden=128,
            departures=_SCRATCH,
        ),
    },
    recipes={
        "paper": _PUBLISHED,
        "paper-head": _PUBLISHED,
        "small": TrisRecipe(
            epochs=20,
            batch_size=64,
            micro_batch=64,
            learning_rate=3e-4,
            weight_decay=1e-2,
            optimizer="adamw",
            precision="bf16",
            backbone_multiplier=1.0,
        ),
        "tiny": TrisRecipe(
            epochs=3,
            batch_size=16,
            micro_batch=16,
            learning_rate=3e-4,
            weight_decay=1e-2,
            optimizer="adamw",
            backbone_multiplier=1.0,
        ),
    },
)
