"""LAVT's sizes, recipes and description."""

from __future__ import annotations

import functools
import pkgutil

from methods import departures
from methods.backbones.sizes import SMALL_BERT, SMALL_SWIN, TINY_BERT, TINY_SWIN, BertSize, SwinSize
from methods.config import Config, Definition, PolynomialRecipe

# What timm calls the starting weights of each published Swin.
_PRETRAINED = {
    "tiny": "swin_tiny_patch4_window7_224.ms_in22k",
    "small": "swin_small_patch4_window7_224.ms_in22k",
    "base": "swin_base_patch4_window12_384.ms_in22k",
    "large": "swin_large_patch4_window12_384.ms_in22k",
}
_SCRATCH = (
    departures.from_scratch("Swin and BERT"),
    "BERT's embeddings and last layers, frozen as published, are trained: random weights cannot"
    " stay as they are",
    departures.BERT_WORDS,
    departures.HIGHER_RATE,
)


class LavtConfig(Config):
    """Size of a LAVT network.

    Attributes:
        swin: size of the image encoder.
        bert: size of the text encoder.
        pwam_heads: heads of the pixel-word attention of the four stages.
        decoder_width: channels inside the decoder. 4 * embed_dim is published.
        fusion_dropout: dropout inside the pixel-word attention.
        bert_dropout: whether BERT's dropout is on in training. As published it is off,
            since nothing puts BERT in train mode.
        class_weights: weights of background and referent in the loss.
    """

    swin: SwinSize
    bert: BertSize = BertSize()
    pwam_heads: tuple[int, int, int, int] = (1, 1, 1, 1)
    decoder_width: int
    fusion_dropout: float = 0.0
    bert_dropout: bool = False
    class_weights: tuple[float, float] = (0.9, 1.1)

    @classmethod
    def published(
        cls,
        swin: str,
        window: int = 12,
        size: int = 480,
        max_length: int = 20,
        pwam_heads: tuple[int, int, int, int] = (1, 1, 1, 1),
    ) -> LavtConfig:
        """Return the published configuration.

        Args:
            swin: `tiny`, `small`, `base` or `large`.
            window: side of an attention window, in tokens.
            size: side of the network input, in pixels.
            max_length: ids per sentence, special ones included.
            pwam_heads: heads of the pixel-word attention of the four stages.
        """
        backbone = SwinSize.published(swin, window)
        return cls(
            size=size,
            max_length=max_length,
            swin=backbone,
            pwam_heads=pwam_heads,
            decoder_width=4 * backbone.embed_dim,
            pretrained=f"{_PRETRAINED[swin]}+bert-base-uncased",
        )


class LavtRecipe(PolynomialRecipe):
    """LAVT's training schedule.

    Attributes:
        freeze_bert_embeddings: whether BERT's embeddings run but are not trained.
        freeze_bert_layers: layers of BERT that run but are not trained. The published
            optimizer is given layers 0 to 9 alone.
    """

    freeze_bert_embeddings: bool = True
    freeze_bert_layers: tuple[int, ...] = (10, 11)


_PUBLISHED = LavtRecipe(
    epochs=40,
    batch_size=32,
    micro_batch=32,
    learning_rate=5e-5,
    weight_decay=1e-2,
    optimizer="adamw",
)

DEFINITION = Definition(
    name="lavt",
    load=functools.partial(pkgutil.resolve_name, "methods.lavt.method:LAVT"),
    config_type=LavtConfig,
    recipe_type=LavtRecipe,
    text=("bert", "raw"),
    couples_batch=True,  # The sum of class weights is a denominator of the loss.
    has_published_weights=True,
    guides=True,
    batch_norm="maps",
    variants={
        "paper": LavtConfig.published("base"),
        "paper-s": LavtConfig.published("small", window=7),
        "paper-t": LavtConfig.published("tiny", window=7),
        "small": LavtConfig(
            size=224,
            max_length=20,
            swin=SMALL_SWIN,
            bert=SMALL_BERT,
            decoder_width=192,
            departures=(
                *_SCRATCH,
                "drop path 0.1 in place of 0.3, and a decoder of half the width",
            ),
        ),
        "tiny": LavtConfig(
            size=64,
            max_length=20,
            swin=TINY_SWIN,
            bert=TINY_BERT,
            decoder_width=32,
            departures=(
                *_SCRATCH,
                "drop path 0.02 in place of 0.3, and a decoder of half the width",
            ),
        ),
    },
    recipes={
        "paper": _PUBLISHED,
        "paper-s": _PUBLISHED,
        "paper-t": _PUBLISHED,
        "small": LavtRecipe(
            epochs=20,
            batch_size=64,
            micro_batch=64,
            learning_rate=3e-4,
            weight_decay=1e-2,
            optimizer="adamw",
            precision="bf16",
            freeze_bert_embeddings=False,
            freeze_bert_layers=(),
        ),
        "tiny": LavtRecipe(
            epochs=1,
            batch_size=16,
            micro_batch=16,
            learning_rate=1.5e-3,
            weight_decay=1e-2,
            optimizer="adamw",
            freeze_bert_embeddings=False,
            freeze_bert_layers=(),
        ),
    },
)
