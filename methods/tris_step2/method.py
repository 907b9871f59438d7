"""TRIS' second step as a method.

Its four losses on pseudo masks, its decision, its parameter groups and its schedule are
the published ones.
"""

from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from benchmark.base.geometry import Geometry, resize
from methods.backbones import clip
from methods.config import DataNeeds, Purpose
from methods.contract import Batch, GuidedMethod, Output, Text
from methods.precision import at_least_float32
from methods.tris.method import INPUT, decide
from methods.tris_step2 import weights
from methods.tris_step2.config import DEFINITION, TrisStep2Recipe
from methods.tris_step2.network import ConvBlock, Maps, PixelWordAttention, TrisStep2Network


class TrisStep2(GuidedMethod):
    """TRIS: Referring Image Segmentation Using Text Supervision (ICCV 2023), step 2.

    Its training masks are pseudo masks, made of the first step's maps.
    """

    definition = DEFINITION
    network_type = TrisStep2Network
    weights = weights
    blocks = (*clip.BLOCKS, PixelWordAttention, ConvBlock)

    @property
    def needs(self) -> DataNeeds:
        """The second step wants the square of step 1, and pseudo masks."""
        return self.fed(**INPUT, masks="pseudo")

    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return what `segment` returns.

        The extras of the loss are also `places` (B, C_4, S/32, S/32), CLIP's coarsest
        map, and `words` (B, L, D).
        """
        maps = self.encode_image(batch.images, draws)
        if purpose == "prediction":
            return self.segment(maps, batch.text)
        words = self.network.encode_words(batch.text.ids)
        output = self.output(self.network.decode(maps, words))
        output.extras |= {"places": maps[-1], "words": words}
        return output

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Maps:
        """Return CLIP's four maps, from (n, C_1, S/4, S/4) to (n, C_4, S/32, S/32)."""
        return self.network.encode_image(images)

    def segment(self, features: Maps, text: Text) -> Output:
        """Return head 1's logits (m, 1, S/4, S/4), and the others' as `head2` to `head4`.

        Their strides are 4, 8 and 16.
        """
        return self.output(self.network.segment(features, text.ids))

    @staticmethod
    def output(heads: Maps) -> Output:
        """Return the logits of the four heads as an output, in float32 or better."""
        first, *others = map(at_least_float32, heads)
        return Output(first, {f"head{number}": logits for number, logits in enumerate(others, 2)})

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return binary cross-entropy of every head at input size, on pseudo masks."""
        size = batch.targets.shape[-2:]
        return {
            name: F.binary_cross_entropy_with_logits(
                F.interpolate(logits, size, mode="bilinear", align_corners=False), batch.targets
            )
            for name, logits in _heads(output).items()
        }

    def distillation(self, student: Output, teacher: Output) -> Tensor:
        """Return the same sum against the teacher's probabilities, at each head's own stride."""
        pairs = zip(_heads(student).values(), _heads(teacher).values(), strict=True)
        return sum(
            F.binary_cross_entropy_with_logits(logits, target.sigmoid()) for logits, target in pairs
        )

    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return where head 1's logit is positive, decided as in step 1.

        If it is negative throughout, that is everywhere (published).
        """
        return decide(resize(logits, (geometry.size,) * 2, align_corners=False), geometry)

    def parameter_groups(self, recipe: TrisStep2Recipe) -> list[dict[str, Any]]:
        """Return `backbone` (both towers) and `rest`, as published."""
        groups: dict[str, list] = {"backbone": [], "rest": []}
        for name, parameter in self.network.named_parameters():
            # The position tables train with the rest (published).
            tower = name.startswith("backbone.") and "positional_embedding" not in name
            groups["backbone" if tower else "rest"].append(parameter)
        return [{"name": name, "params": parameters} for name, parameters in groups.items()]

    def schedule(self, recipe: TrisStep2Recipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the rates of `backbone` and `rest`, which are in effect constant."""
        # Published: the decay counts iterations but is stepped once per epoch.
        rate = recipe.rate(step // steps_per_epoch, steps_per_epoch)
        return [recipe.backbone_multiplier * rate, rate]


def _heads(output: Output) -> dict[str, Tensor]:
    others = {name: value for name, value in output.extras.items() if name.startswith("head")}
    return {"head1": output.logits, **others}
