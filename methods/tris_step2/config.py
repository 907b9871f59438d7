"""Sizes, recipes and description of TRIS' second step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from methods.backbones.sizes import RN50, SMALL, TINY, ClipConfig
from methods.config import Config, Definition
from methods.tris.config import TrisRecipe

if TYPE_CHECKING:
    from methods.contract import Method

_SCRATCH = (
    "trained from scratch: CLIP's towers start from random weights, not from the published ones",
    "backbone_multiplier 1: towers that start from random weights need the full learning rate",
    "word pieces trained on the training sentences in place of CLIP's 49,408",
    "a higher learning rate than the published one, which fine-tunes",
)


class TrisStep2Config(Config):
    """Size of the network. The defaults are the published ones.

    Attributes:
        clip: dimensions of both towers.
        width: channels w of the decoder at its finest level. The levels have w, 2w, 4w
            and 8w.
    """

    clip: ClipConfig = RN50
    width: int = 64


class TrisStep2Recipe(TrisRecipe):
    """The second step's training schedule.

    Attributes:
        pseudo_masks: key of the finished run of step 1 whose pseudo masks are the
            targets.
    """

    pseudo_masks: str = ""


def _load() -> type[Method]:
    from methods.tris_step2.method import TrisStep2

    return TrisStep2


DEFINITION = Definition(
    name="tris_step2",
    load=_load,
    config_type=TrisStep2Config,
    recipe_type=TrisStep2Recipe,
    text=("clip", "sent"),
    weakly_supervised=True,
    stage="step 2",
    has_published_weights=True,
    targets_from="tris",
    variants={
        "paper": TrisStep2Config(size=320, max_length=20, pretrained="openai-RN50"),
        "small": TrisStep2Config(
            size=224,
            max_length=20,
            clip=SMALL,
            width=48,
            departures=_SCRATCH,
        ),
        "tiny": TrisStep2Config(
            size=96,
            max_length=20,
            clip=TINY,
            width=16,
            departures=_SCRATCH,
        ),
    },
    recipes={
        "paper": TrisStep2Recipe(
            epochs=15,
            batch_size=48,
            micro_batch=48,
            learning_rate=5e-5,
            weight_decay=1e-2,
            optimizer="adamw",
        ),
        "small": TrisStep2Recipe(
            epochs=20,
            batch_size=64,
            micro_batch=64,
            learning_rate=3e-4,
            weight_decay=1e-2,
            optimizer="adamw",
            precision="bf16",
            backbone_multiplier=1.0,
        ),
        "tiny": TrisStep2Recipe(
            epochs=3,
            batch_size=16,
            micro_batch=16,
            learning_rate=1e-3,
            weight_decay=1e-2,
            optimizer="adamw",
            backbone_multiplier=1.0,
        ),
    },
)
