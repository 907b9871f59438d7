"""CRIS as a method: published loss, decision, parameter groups and schedule."""

import math
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from benchmark.base.geometry import Geometry, resize, restore
from methods.backbones.clip import SMALL, TINY
from methods.config import CLIP_MEAN, CLIP_STD, DataNeeds, Purpose, Recipe
from methods.contract import Batch, Method, Output, Text
from methods.cris import weights
from methods.cris.network import CrisConfig, CrisNetwork

THRESHOLD = 0.35  # of the probability, as published
_SCRATCH = (
    "trained from scratch: CLIP's towers start from random weights, not from the published ones",
    "backbone_multiplier 1 or 2: towers that start from random weights need the full learning rate and more",
    "word pieces trained on the training sentences in place of CLIP's 49,408",
    "branch_gain 0 and kernel_gain 0.1: a start from which the decoder's attention and the sentence's kernel grow in",
)


class CrisRecipe(Recipe):
    """CRIS' training schedule.

    Attributes:
        milestones: epochs at whose end the rate is multiplied by `gamma`.
        backbone_multiplier: rate of the CLIP towers relative to the rest.
        first_epoch_at_full_rate: the published code sets `initial_lr` alone, so epoch 1 trains the towers at the full rate.
    """

    milestones: tuple[int, ...] = (35,)
    gamma: float = 0.1
    backbone_multiplier: float = 0.1
    first_epoch_at_full_rate: bool = True

    def stretched(self, factor: float) -> dict[str, Any]:
        """Return the changes as `Recipe.stretched` does, milestones moved along (rounded to whole epochs)."""
        return super().stretched(factor) | {"milestones": tuple(round(factor * epoch) for epoch in self.milestones)}


_PUBLISHED = CrisRecipe(
    epochs=50, batch_size=64, micro_batch=64, learning_rate=1e-4, optimizer="adam", precision="fp16"
)


class CRIS(Method):
    """CRIS: CLIP-Driven Referring Image Segmentation (CVPR 2022)."""

    name = "cris"
    recipe_type = CrisRecipe
    network_type = CrisNetwork
    text = ("clip", "sent")
    weights = weights
    variants: ClassVar[dict[str, CrisConfig]] = {
        "paper": CrisConfig.published("RN101"),
        "paper-rn50": CrisConfig.published("RN50"),
        "small": CrisConfig(
            size=224,
            max_length=20,
            clip=SMALL.model_copy(update={"text_layers": 4}),
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
            clip=TINY.model_copy(update={"text_layers": 1}),
            neck=(64, 64, 128),
            decoder_layers=2,
            decoder_heads=4,
            decoder_ffn=128,
            dropout=0.0,
            branch_gain=0.0,
            kernel_gain=0.1,
            departures=(*_SCRATCH, "no dropout in the decoder: a minute of training does not overfit"),
        ),
    }
    recipes: ClassVar[dict[str, CrisRecipe]] = {
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
    }

    @classmethod
    def config_for(cls, variant: str, dataset: str) -> CrisConfig:
        """Return the variant's configuration; the published one takes 22 words on RefCOCOg and 17 elsewhere."""
        config = cls.variants[variant]
        long = variant.startswith("paper") and dataset.startswith("refcocog")
        return config.model_copy(update={"max_length": 22}) if long else config

    @property
    def needs(self) -> DataNeeds:
        """Letterboxed 416 x 416, CLIP's normalisation and word pieces, one sentence per ref."""
        return self.fed(
            geometry="letterbox",
            mean=CLIP_MEAN,
            std=CLIP_STD,
        )

    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return logits (B, 1, S/4, S/4)."""
        return self.segment(self.encode_image(batch.images, draws), batch.text)

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the network's text-free features: the neck's three maps."""
        return self.network.encode_image(images)

    def segment(self, features: tuple[Tensor, Tensor, Tensor], text: Text) -> Output:
        """Return logits (m, 1, S/4, S/4)."""
        return Output(self.network.segment(features, text.ids, text.attention))

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return binary cross-entropy at stride 4 with the nearest-resized soft target (published)."""
        logits = output.logits.float()
        target = F.interpolate(batch.targets, logits.shape[-2:], mode="nearest")
        return {"bce": F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))}

    def distillation(self, student: Output, teacher: Output) -> Tensor:
        """Return the same loss against the teacher's probability at stride 4 (MaskRIS Eq. 4 in CRIS' loss form)."""
        return F.binary_cross_entropy_with_logits(student.logits.float(), teacher.logits.float().sigmoid())

    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return probability > 0.35 at the original size; the logit, not the probability, is upsampled (bilinear)."""
        at_input = resize(logits, (geometry.size, geometry.size), align_corners=False)
        return restore(at_input, geometry) > math.log(THRESHOLD / (1 - THRESHOLD))

    def parameter_groups(self, recipe: CrisRecipe) -> list[dict[str, Any]]:
        """Return `backbone` (both towers without their position tables) and `rest`, as published."""
        groups: dict[str, list] = {"backbone": [], "rest": []}
        for name, parameter in self.network.named_parameters():
            tower = name.startswith("backbone") and "positional_embedding" not in name
            groups["backbone" if tower else "rest"].append(parameter)
        return [{"name": name, "params": parameters} for name, parameters in groups.items()]

    def schedule(self, recipe: CrisRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the rates of `backbone` and `rest`: constant within an epoch, times `gamma` at every milestone."""
        epoch = step // steps_per_epoch
        rate = recipe.learning_rate * recipe.gamma ** sum(epoch >= milestone for milestone in recipe.milestones)
        if epoch == 0 and recipe.first_epoch_at_full_rate:
            return [recipe.learning_rate, recipe.learning_rate]
        return [rate * recipe.backbone_multiplier, rate]
