"""LAVT's sizes, recipes and description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from methods.backbones.sizes import BertSize, SwinSize
from methods.config import Config, Definition, Recipe

if TYPE_CHECKING:
    from methods.contract import Method

# The published Swin -> timm's name of its starting weights.
_PRETRAINED = {
    "tiny": "swin_tiny_patch4_window7_224.ms_in22k",
    "small": "swin_small_patch4_window7_224.ms_in22k",
    "base": "swin_base_patch4_window12_384.ms_in22k",
    "large": "swin_large_patch4_window12_384.ms_in22k",
}
_SCRATCH = (
    "trained from scratch: Swin and BERT start from random weights, not from the published ones",
    "BERT's embeddings and last layers, frozen as published, are trained: random weights cannot"
    " stay as they are",
    "word pieces trained on the training sentences in place of BERT's 30,522",
    "a higher learning rate than the published one, which fine-tunes",
)


class LavtConfig(Config):
    """Size of a LAVT network.

    Attributes:
        swin, bert: sizes of the two encoders.
        pwam_heads: heads of the pixel-word attention of the four stages.
        decoder_width: channels inside the decoder (published: 4 * embed_dim).
        fusion_dropout: inside the pixel-word attention.
        bert_dropout: whether BERT's dropout is on in training. As published it is off,
            since nothing puts BERT in train mode.
        class_weights: of background and referent in the loss.
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
        """Return the published configuration with the Swin `swin`: tiny, small, base or large."""
        backbone = SwinSize.published(swin, window)
        return cls(
            size=size,
            max_length=max_length,
            swin=backbone,
            pwam_heads=pwam_heads,
            decoder_width=4 * backbone.embed_dim,
            pretrained=f"{_PRETRAINED[swin]}+bert-base-uncased",
        )


class LavtRecipe(Recipe):
    """LAVT's training schedule.

    Attributes:
        power: of the polynomial decay, per iteration.
        freeze_bert_embeddings, freeze_bert_layers: parts of BERT that run but are not
            trained. The published optimizer is given layers 0 to 9 alone.
    """

    power: float = 0.9
    freeze_bert_embeddings: bool = True
    freeze_bert_layers: tuple[int, ...] = (10, 11)


def _load() -> type[Method]:
    from methods.lavt.method import LAVT

    return LAVT


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
    load=_load,
    config_type=LavtConfig,
    recipe_type=LavtRecipe,
    text=("bert", "raw"),
    has_published_weights=True,
    variants={
        "paper": LavtConfig.published("base"),
        "paper-s": LavtConfig.published("small", window=7),
        "paper-t": LavtConfig.published("tiny", window=7),
        "small": LavtConfig(
            size=224,
            max_length=20,
            swin=SwinSize(
                embed_dim=96,
                depths=(2, 2, 6, 2),
                heads=(3, 6, 12, 24),
                window=7,
                drop_path=0.1,
            ),
            bert=BertSize(hidden=256, layers=4, heads=4, intermediate=1024, positions=32),
            decoder_width=192,
            departures=(
                *_SCRATCH,
                "drop path 0.1 in place of 0.3, and a decoder of half the width",
            ),
        ),
        "tiny": LavtConfig(
            size=64,
            max_length=20,
            swin=SwinSize(
                embed_dim=16,
                depths=(1, 1, 1, 1),
                heads=(1, 2, 4, 8),
                window=4,
                drop_path=0.02,
            ),
            bert=BertSize(hidden=64, layers=1, heads=4, intermediate=128, positions=32),
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
