"""The second step of TRIS as a method: four losses on pseudo masks, published decision, parameter groups and schedule."""

from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from benchmark.base.geometry import Geometry, resize
from methods.backbones.clip import SMALL, TINY
from methods.config import IMAGENET_MEAN, IMAGENET_STD, DataNeeds, Purpose
from methods.contract import Batch, Method, Output, Text
from methods.tris.auxiliary import at_least_float32
from methods.tris.method import TrisRecipe, decide, polynomial_decay
from methods.tris_step2 import weights
from methods.tris_step2.network import Maps, TrisStep2Config, TrisStep2Network

_SCRATCH = (
    "trained from scratch: CLIP's towers start from random weights, not from the published ones",
    "backbone_multiplier 1: towers that start from random weights need the full learning rate",
    "word pieces trained on the training sentences in place of CLIP's 49,408",
    "a higher learning rate than the published one, which fine-tunes",
)


class TrisStep2Recipe(TrisRecipe):
    """The second step's training schedule.

    Attributes:
        pseudo_masks: key of the finished run of step 1 whose pseudo masks are the targets.
    """

    pseudo_masks: str = ""


class TrisStep2(Method):
    """TRIS: Referring Image Segmentation Using Text Supervision (ICCV 2023), step 2.

    Its training masks are pseudo masks, made of the first step's maps.
    """

    name = "tris_step2"
    network_type = TrisStep2Network
    stage = "step 2"
    weakly_supervised = True
    recipe_type = TrisStep2Recipe
    text = ("clip", "sent")
    weights = weights
    variants: ClassVar[dict[str, TrisStep2Config]] = {
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
    }
    recipes: ClassVar[dict[str, TrisStep2Recipe]] = {
        "paper": TrisStep2Recipe(
            epochs=15, batch_size=48, micro_batch=48, learning_rate=5e-5, weight_decay=1e-2, optimizer="adamw"
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
    }

    @property
    def needs(self) -> DataNeeds:
        """A square whatever the aspect ratio, CLIP's word pieces, but ImageNet's normalisation (published)."""
        return self.fed(
            geometry="square",
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            keep_end=False,
            masks="pseudo",
        )

    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return what `segment` returns."""
        return self.segment(self.encode_image(batch.images, draws), batch.text)

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Maps:
        """Return CLIP's four maps (n, C_i, S/4, S/4) to (n, C_i, S/32, S/32)."""
        return self.network.encode_image(images)

    def segment(self, features: Maps, text: Text) -> Output:
        """Return head 1's logits (m, 1, S/4, S/4), and as `head2` to `head4` the logits of the others, at strides 4, 8, 16."""
        first, *others = map(at_least_float32, self.network.segment(features, text.ids))
        return Output(first, {f"head{number}": logits for number, logits in enumerate(others, 2)})

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return binary cross-entropy of every head at input size; `batch.targets` are pseudo masks."""
        size = batch.targets.shape[-2:]
        return {
            name: F.binary_cross_entropy_with_logits(
                F.interpolate(logits, size, mode="bilinear", align_corners=False), batch.targets
            )
            for name, logits in _heads(output).items()
        }

    def distillation(self, student: Output, teacher: Output) -> Tensor:
        """Return the same sum against the teacher's probabilities, head by head at its own stride."""
        pairs = zip(_heads(student).values(), _heads(teacher).values(), strict=True)
        return sum(F.binary_cross_entropy_with_logits(logits, target.sigmoid()) for logits, target in pairs)

    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return where head 1's logit is positive, decided as in step 1: if it is negative throughout, everywhere (published)."""
        return decide(resize(logits, (geometry.size,) * 2, align_corners=False), geometry)

    def parameter_groups(self, recipe: TrisStep2Recipe) -> list[dict[str, Any]]:
        """Return `backbone` (both towers without their position tables) and `rest`, as published."""
        groups: dict[str, list] = {"backbone": [], "rest": []}
        for name, parameter in self.network.named_parameters():
            tower = name.startswith("backbone.") and "positional_embedding" not in name
            groups["backbone" if tower else "rest"].append(parameter)
        return [{"name": name, "params": parameters} for name, parameters in groups.items()]

    def schedule(self, recipe: TrisStep2Recipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the rates of `backbone` and `rest`.

        The published decay counts iterations but is stepped once per epoch: in effect the rate is constant.
        """
        rate = polynomial_decay(recipe, step // steps_per_epoch, steps_per_epoch)
        return [recipe.backbone_multiplier * rate, rate]


def _heads(output: Output) -> dict[str, Tensor]:
    return {"head1": output.logits, **output.extras}
