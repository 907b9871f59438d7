"""Sizes, recipes and description of TRIS' second step."""

from __future__ import annotations

import functools
import pkgutil

from methods import departures
from methods.backbones.sizes import RN50, SMALL_CLIP, TINY_CLIP, ClipConfig
from methods.config import Config, Definition, revised
from methods.tris.config import TrisRecipe

_SCRATCH = (
    departures.from_scratch("CLIP's towers"),
    departures.full_rate("towers"),
    departures.CLIP_WORDS,
    departures.HIGHER_RATE,
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


DEFINITION = Definition(
    name="tris_step2",
    load=functools.partial(pkgutil.resolve_name, "methods.tris_step2.method:TrisStep2"),
    config_type=TrisStep2Config,
    recipe_type=TrisStep2Recipe,
    text=("clip", "sent"),
    weakly_supervised=True,
    stage="step 2",
    has_published_weights=True,
    guides=True,
    targets_from="tris",
    batch_norm="maps",
    # Since revision 2, attention may round otherwise, but not where a network is tiny.
    revisions=revised(2, "paper", "small"),
    variants={
        "paper": TrisStep2Config(size=320, max_length=20, pretrained="openai-RN50"),
        "small": TrisStep2Config(
            size=224,
            max_length=20,
            clip=SMALL_CLIP,
            width=48,
            departures=_SCRATCH,
        ),
        "tiny": TrisStep2Config(
            size=96,
            max_length=20,
            clip=TINY_CLIP,
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
