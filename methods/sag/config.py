"""SaG's sizes, recipes and description."""

from __future__ import annotations

import functools
import pkgutil

from methods import departures
from methods.backbones.sizes import SMALL_BERT, TINY_BERT, BertSize, VitSize
from methods.config import Config, Definition, Recipe, revised

_SCRATCH = (
    departures.from_scratch("ViT and BERT"),
    "backbone_multiplier 1: a ViT that starts from random weights needs the full learning rate",
    departures.BERT_WORDS,
    departures.HIGHER_RATE_SHORT_WARMUP,
    "a smaller ViT, BERT and slots, and a position table of the input's own size",
)


class SagConfig(Config):
    """Size of a SaG network. The defaults are the published ones.

    Attributes:
        vit: size of the image encoder.
        bert: size of the text encoder, whose dropout is on in training.
        width: channels of slots and sentences.
        groups: number of Gaussians that slots are drawn from.
        group_size: slots that are drawn from each Gaussian.
        iterations: how often the slots read the image.
        heads: heads of every attention.
        head_width: channels of a head.
        group_head_width: channels of a head of the attention among a group's slots.
        feed_forward: channels inside the feed-forward networks.
        dropout: dropout after attention and in the slots' feed-forward networks.
    """

    vit: VitSize = VitSize()
    bert: BertSize = BertSize()
    width: int = 512
    groups: int = 12
    group_size: int = 3
    iterations: int = 6
    heads: int = 4
    head_width: int = 256
    group_head_width: int = 128
    feed_forward: int = 2048
    dropout: float = 0.1

    @property
    def slots(self) -> int:
        """How many slots an image has."""
        return self.groups * self.group_size

    @classmethod
    def published(cls, size: int = 384, max_length: int = 64) -> SagConfig:
        """Return the published configuration.

        The published loader cuts no sentence, so `max_length` is only what no sentence
        exceeds.

        Args:
            size: side of the network input, in pixels.
            max_length: ids per sentence, special ones included.
        """
        return cls(
            size=size,
            max_length=max_length,
            pretrained="vit_small_patch16_384.augreg_in21k_ft_in1k+bert-base-uncased",
        )


class SagRecipe(Recipe):
    """SaG's training schedule.

    Attributes:
        warmup_steps: iterations in which the loss grows linearly to its full size. The
            rate does not decay in them.
        backbone_multiplier: rate of the ViT relative to the rest.
    """

    warmup_steps: int = 5000
    backbone_multiplier: float = 0.1


DEFINITION = Definition(
    name="sag",
    load=functools.partial(pkgutil.resolve_name, "methods.sag.method:SaG"),
    config_type=SagConfig,
    recipe_type=SagRecipe,
    text=("bert", "sent"),
    unit="expression",
    weakly_supervised=True,
    couples_batch=True,
    has_published_weights=True,
    guides=True,
    # Until revision 2, the cosine ran one iteration late. Since 3, the decoder multiplies slots and
    # places apart, and padding behind the longest sentence is left out.
    revisions=revised(3, "paper", "small", "tiny"),
    variants={
        "paper": SagConfig.published(),
        "small": SagConfig(
            size=192,
            max_length=24,
            vit=VitSize(width=256, layers=6, heads=4, mlp=1024, positions=12),
            bert=SMALL_BERT,
            width=256,
            head_width=64,
            group_head_width=64,
            feed_forward=1024,
            departures=_SCRATCH,
        ),
        "tiny": SagConfig(
            size=64,
            max_length=20,
            vit=VitSize(
                width=64,
                layers=2,
                heads=4,
                mlp=128,
                patch=8,
                positions=8,
                drop_path=0.02,
            ),
            bert=TINY_BERT,
            width=64,
            groups=4,
            iterations=3,
            head_width=16,
            group_head_width=16,
            feed_forward=128,
            departures=(
                *_SCRATCH,
                "12 slots and 3 iterations in place of 36 and 6, drop path 0.02 in place of 0.1",
            ),
        ),
    },
    recipes={
        "paper": SagRecipe(
            epochs=50,
            batch_size=32,
            micro_batch=32,
            learning_rate=1e-5,
            weight_decay=1e-4,
            optimizer="adamw",
            clip_norm=0.1,
            precision="fp16",
            drop_last=False,
        ),
        "small": SagRecipe(
            epochs=30,
            batch_size=64,
            micro_batch=64,
            learning_rate=2e-4,
            weight_decay=1e-4,
            optimizer="adamw",
            clip_norm=0.1,
            precision="bf16",
            drop_last=False,
            warmup_steps=500,
            backbone_multiplier=1.0,
        ),
        "tiny": SagRecipe(
            epochs=1,
            batch_size=16,
            micro_batch=16,
            learning_rate=1e-3,
            weight_decay=1e-4,
            optimizer="adamw",
            clip_norm=0.1,
            drop_last=False,
            warmup_steps=20,
            backbone_multiplier=1.0,
        ),
    },
)
