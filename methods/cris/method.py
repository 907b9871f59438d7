"""CRIS as a method.

The loss, the decision, the parameter groups and the schedule are the published ones.
"""

import math
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from benchmark.base.geometry import Geometry, resize, restore
from methods.backbones import clip
from methods.config import CLIP_MEAN, CLIP_STD, DataNeeds, Purpose
from methods.contract import Batch, GuidedMethod, Output, Text
from methods.cris import weights
from methods.cris.config import DEFINITION, CrisRecipe
from methods.cris.network import CrisNetwork, DecoderLayer, Maps, Neck, Projector
from methods.precision import at_least_float32

# The published threshold of the probability.
THRESHOLD = 0.35


class CRIS(GuidedMethod):
    """CRIS: CLIP-Driven Referring Image Segmentation (CVPR 2022)."""

    definition = DEFINITION
    network_type = CrisNetwork
    weights = weights
    blocks = (*clip.BLOCKS, Neck, DecoderLayer, Projector)

    @property
    def needs(self) -> DataNeeds:
        """CRIS wants a letterboxed square with CLIP's normalization."""
        return self.fed(geometry="letterbox", mean=CLIP_MEAN, std=CLIP_STD)

    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return logits (B, 1, S/4, S/4).

        The extras of the loss are `places` (B, E, S/32, S/32), the attention pool's grid
        before the neck, and `words` (B, L, D), not projected.
        """
        if purpose == "prediction":
            return self.segment(self.encode_image(batch.images, draws), batch.text)
        network, text = self.network, batch.text
        stages = network.stages(batch.images)
        words, state = network.encode_words(text.ids)
        logits = network.decode(network.neck.project(stages), words, state, text.attention)
        return Output(logits, {"places": stages[-1], "words": words})

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Maps:
        """Return the neck's three maps, which need no text."""
        return self.network.encode_image(images)

    def segment(self, features: Maps, text: Text) -> Output:
        """Return logits (m, 1, S/4, S/4)."""
        return Output(self.network.segment(features, text.ids, text.attention))

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return binary cross-entropy at stride 4 with the nearest-resized soft target.

        That is what the published code computes. Its paper calls the loss text-to-pixel
        contrastive.
        """
        logits = at_least_float32(output.logits)
        target = F.interpolate(batch.targets, logits.shape[-2:], mode="nearest")
        return {"bce": F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))}

    def distillation(self, student: Output, teacher: Output) -> Tensor:
        """Return the same loss against the teacher's probability (MaskRIS, equation 4)."""
        target = at_least_float32(teacher.logits).sigmoid()
        return F.binary_cross_entropy_with_logits(at_least_float32(student.logits), target)

    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return where the probability exceeds 0.35 at the original size.

        The logit is upsampled bilinearly, not the probability.
        """
        at_input = resize(logits, (geometry.size, geometry.size), align_corners=False)
        return restore(at_input, geometry) > math.log(THRESHOLD / (1 - THRESHOLD))

    def parameter_groups(self, recipe: CrisRecipe) -> list[dict[str, Any]]:
        """Return `backbone` (both towers) and `rest`, as published."""
        groups: dict[str, list] = {"backbone": [], "rest": []}
        for name, parameter in self.network.named_parameters():
            # The position tables train with the rest (published).
            tower = name.startswith("backbone") and "positional_embedding" not in name
            groups["backbone" if tower else "rest"].append(parameter)
        return [{"name": name, "params": parameters} for name, parameters in groups.items()]

    def schedule(self, recipe: CrisRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the rates of `backbone` and `rest`, constant within an epoch."""
        epoch = step // steps_per_epoch
        if epoch == 0 and recipe.first_epoch_at_full_rate:
            return [recipe.learning_rate, recipe.learning_rate]
        rate = recipe.rate(epoch)
        return [rate * recipe.backbone_multiplier, rate]
