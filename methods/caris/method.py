"""CARIS as a method: published parameter groups and schedule; its loss and decision are those of `TwoClassMethod`."""

from typing import Any, ClassVar

from torch import Tensor

from methods.backbones.bert import BertSize
from methods.backbones.swin import SwinSize
from methods.caris import weights
from methods.caris.network import CarisConfig, CarisNetwork, Features
from methods.config import Recipe
from methods.contract import Output, Text
from methods.two_class import TwoClassMethod

# Part of the network -> what a parameter's name contains if it does not decay. GroupNorm is called `gn`, so it decays.
_NO_DECAY = {
    "vis_encoder": ("norm", "relative_position_bias_table"),
    "lang_encoder": ("Norm", "embeddings"),
    "rest": ("norm", "lang_prompts", "vis_prompts"),
}
_SCRATCH = (
    "trained from scratch: Swin and BERT start from random weights, not from the published ones",
    "backbone_multiplier 1: encoders that start from random weights need the full learning rate",
    "word pieces trained on the training sentences in place of BERT's 30,522",
    "a higher learning rate than the published one, which fine-tunes, and a warm-up as short as the training",
)


class CarisRecipe(Recipe):
    """CARIS' training schedule.

    Attributes:
        power: of the polynomial decay, per iteration.
        warmup_steps: iterations in which the rate grows linearly from `warmup_ratio` of the base rate to all of it.
        first_step_at_full_rate: the published scheduler sets a rate only after the first step, which so has no warm-up.
        backbone_multiplier: rate of both encoders relative to the rest.
    """

    power: float = 0.9
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


class CARIS(TwoClassMethod):
    """CARIS: Context-Aware Referring Image Segmentation (ACM MM 2023)."""

    name = "caris"
    network_type = CarisNetwork
    recipe_type = CarisRecipe
    text = ("bert", "sent")
    weights = weights
    variants: ClassVar[dict[str, CarisConfig]] = {
        "paper": CarisConfig.published("base"),
        "paper-s": CarisConfig.published("small"),
        "paper-t": CarisConfig.published("tiny"),
        "small": CarisConfig(
            size=224,
            max_length=20,
            swin=SwinSize(embed_dim=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), window=7, drop_path=0.1),
            bert=BertSize(hidden=256, layers=4, heads=4, intermediate=1024, positions=32),
            layers=3,
            attention_width=256,
            mlp_width=512,
            departures=(*_SCRATCH, "drop path 0.1 in place of 0.3, and a decoder of half the layers and narrower ones"),
        ),
        "tiny": CarisConfig(
            size=64,
            max_length=20,
            swin=SwinSize(embed_dim=16, depths=(1, 1, 1, 1), heads=(1, 2, 4, 8), window=4, drop_path=0.02),
            bert=BertSize(hidden=64, layers=1, heads=4, intermediate=128, positions=32),
            width=64,
            layers=1,
            heads=4,
            attention_width=64,
            mlp_width=128,
            points=2,
            deviation=0.12,
            departures=(
                *_SCRATCH,
                "drop path 0.02 in place of 0.3, and a decoder of one narrow layer that reads two points",
                "starting deviation 0.12 in the decoder's layer: at 0.02 words reach the pixels too late for a minute",
            ),
        ),
    }
    recipes: ClassVar[dict[str, CarisRecipe]] = {
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
    }

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Features:
        """Return what an image's sentences share: its prompts for BERT and the decoder's projected maps."""
        return self.network.encode_image(images)

    def segment(self, features: Features, text: Text) -> Output:
        """Return logits (m, 1, S/4, S/4) and `two_class` (m, 2, S/4, S/4)."""
        return self.output(self.network.segment(features, text.ids, text.attention))

    def parameter_groups(self, recipe: CarisRecipe) -> list[dict[str, Any]]:
        """Return the published groups: both encoders and the rest, each with and without decay."""
        groups: dict[str, list] = {f"{part}{suffix}": [] for part in _NO_DECAY for suffix in ("", "_no_decay")}
        for name, parameter in self.network.named_parameters():
            part = next((part for part in _NO_DECAY if f".{part}." in name), "rest")
            exempt = any(word in name for word in _NO_DECAY[part])
            groups[f"{part}_no_decay" if exempt else part].append(parameter)
        decays = {name: 0.0 if name.endswith("_no_decay") else recipe.weight_decay for name in groups}
        return [{"name": name, "params": groups[name], "weight_decay": decays[name]} for name in groups]

    def schedule(self, recipe: CarisRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the rates of the six groups: linear warm-up, then polynomial decay per iteration.

        The decay counts from step 0, not from the end of the warm-up (published).
        """
        if step == 0 and recipe.first_step_at_full_rate:
            factor = 1.0
        elif step <= recipe.warmup_steps:
            factor = 1 - (1 - step / max(recipe.warmup_steps, 1)) * (1 - recipe.warmup_ratio)
        else:
            factor = max(0.0, 1 - step / (recipe.epochs * steps_per_epoch)) ** recipe.power
        rate = recipe.learning_rate * factor
        return [recipe.backbone_multiplier * rate] * 4 + [rate] * 2
