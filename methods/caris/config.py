"""CARIS' sizes, recipes and description."""

from __future__ import annotations

import functools
import pkgutil

from methods import departures
from methods.backbones.sizes import SMALL_BERT, SMALL_SWIN, TINY_BERT, TINY_SWIN, BertSize, SwinSize
from methods.config import Config, Definition, PolynomialRecipe

_SCRATCH = (
    departures.from_scratch("Swin and BERT"),
    departures.full_rate("encoders"),
    departures.BERT_WORDS,
    departures.HIGHER_RATE_SHORT_WARMUP,
)


class CarisConfig(Config):
    """Size of a CARIS network. The defaults are the published ones.

    Attributes:
        swin: size of the image encoder.
        bert: size of the text encoder, whose dropout is on in training.
        prompts: sides of the grids that the coarsest map is pooled to. Every cell
            becomes a prompt.
        width: channels of a token in the pixel decoder.
        layers: number of the decoder's layers.
        heads: attention heads of a layer.
        attention_width: channels of all heads of an attention together. The deformable
            attention stays at `width`.
        mlp_width: channels inside the decoder's MLPs.
        points: points that the deformable attention reads per head and level.
        deviation: standard deviation of the starting weights of the layers' linear maps.
            0.02 is published. In a narrow decoder it lets next to nothing through.
        class_weights: weights of background and referent in the loss.
    """

    swin: SwinSize
    bert: BertSize = BertSize()
    prompts: tuple[int, ...] = (1, 2)
    width: int = 256
    layers: int = 6
    heads: int = 8
    attention_width: int = 1024
    mlp_width: int = 1024
    points: int = 4
    deviation: float = 0.02
    class_weights: tuple[float, float] = (0.9, 1.1)

    @classmethod
    def published(
        cls, swin: str, window: int = 7, size: int = 448, max_length: int = 20
    ) -> CarisConfig:
        """Return the published configuration.

        Args:
            swin: `tiny`, `small`, `base` or `large`.
            window: side of an attention window, in tokens.
            size: side of the network input, in pixels.
            max_length: ids per sentence, special ones included.
        """
        return cls(
            size=size,
            max_length=max_length,
            swin=SwinSize.published(swin, window),
            pretrained=f"swin_{swin}_patch4_window7_224.ms_in22k+bert-base-uncased",
        )


class CarisRecipe(PolynomialRecipe):
    """CARIS' training schedule.

    Attributes:
        warmup_steps: iterations in which the rate grows linearly from `warmup_ratio` of
            the base rate to all of it.
        warmup_ratio: rate at the start, relative to the base rate.
        first_step_at_full_rate: whether the first step has no warm-up. The published
            scheduler sets a rate only after that step, so it has none.
        backbone_multiplier: rate of both encoders relative to the rest.
    """

    warmup_steps: int = 1500
    warmup_ratio: float = 1e-3
    first_step_at_full_rate: bool = True
    backbone_multiplier: float = 0.1


_PUBLISHED = CarisRecipe(
    epochs=50,
    batch_size=16,
    micro_batch=16,
    learning_rate=1e-4,
    weight_decay=1e-2,
    optimizer="adamw",
    clip_norm=1.0,
    precision="fp16",
)

DEFINITION = Definition(
    name="caris",
    load=functools.partial(pkgutil.resolve_name, "methods.caris.method:CARIS"),
    config_type=CarisConfig,
    recipe_type=CarisRecipe,
    text=("bert", "sent"),
    couples_batch=True,  # The sum of class weights is a denominator of the loss.
    has_published_weights=True,
    guides=True,
    variants={
        "paper": CarisConfig.published("base"),
        "paper-s": CarisConfig.published("small"),
        "paper-t": CarisConfig.published("tiny"),
        "small": CarisConfig(
            size=224,
            max_length=20,
            swin=SMALL_SWIN,
            bert=SMALL_BERT,
            layers=3,
            attention_width=256,
            mlp_width=512,
            departures=(
                *_SCRATCH,
                "drop path 0.1 in place of 0.3, and a decoder of half the layers and narrower ones",
            ),
        ),
        "tiny": CarisConfig(
            size=64,
            max_length=20,
            swin=TINY_SWIN,
            bert=TINY_BERT,
            width=64,
            layers=1,
            heads=4,
            attention_width=64,
            mlp_width=128,
            points=2,
            deviation=0.12,
            departures=(
                *_SCRATCH,
                "drop path 0.02 in place of 0.3, and a decoder of one narrow layer that reads two"
                " points",
                "starting deviation 0.12 in the decoder's layer: at 0.02 words reach the pixels too"
                " late for a minute",
            ),
        ),
    },
    recipes={
        "paper": _PUBLISHED,
        "paper-s": _PUBLISHED,
        "paper-t": _PUBLISHED,
        "small": CarisRecipe(
            epochs=20,
            batch_size=64,
            micro_batch=64,
            learning_rate=3e-4,
            weight_decay=1e-2,
            optimizer="adamw",
            clip_norm=1.0,
            precision="bf16",
            warmup_steps=500,
            backbone_multiplier=1.0,
        ),
        "tiny": CarisRecipe(
            epochs=1,
            batch_size=8,
            micro_batch=8,
            learning_rate=1e-3,
            weight_decay=1e-2,
            optimizer="adamw",
            clip_norm=1.0,
            warmup_steps=40,
            backbone_multiplier=1.0,
        ),
    },
)
