"""What LAVT and CARIS share.

Their input is a square, and their networks end in two maps at stride 4, one of the
background and one of the referent.
"""

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.base.geometry import Geometry, resize, restore
from methods.config import IMAGENET_MEAN, IMAGENET_STD, DataNeeds, Purpose, Recipe
from methods.contract import Batch, GuidedMethod, Output
from methods.precision import at_least_float32


class TwoClassMethod(GuidedMethod):
    """A method whose logits are the difference of two maps, referent minus background.

    `Output.extras["two_class"]` holds both, (B, 2, h, w). The field `class_weights` of the
    method's configuration weighs background and referent in the loss.
    """

    def __init__(self, config: Any, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        # It follows from the configuration, so no checkpoint holds it.
        weights = torch.tensor(config.class_weights, dtype=torch.float64)
        self.register_buffer("class_weights", weights, persistent=False)

    @property
    def needs(self) -> DataNeeds:
        """Both want a square whatever the aspect ratio, with ImageNet's normalization."""
        return self.fed(geometry="square", mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return logits (B, 1, S/4, S/4) and `two_class` (B, 2, S/4, S/4).

        The extras of the loss are also `places` (B, C, S/32, S/32) and `words` (B, L, T).
        """
        if purpose == "prediction":
            return self.segment(self.encode_image(batch.images, draws), batch.text)
        two_class, places, words = self.whole(batch)
        output = self.output(two_class)
        output.extras |= {"places": places, "words": words}
        return output

    @abc.abstractmethod
    def whole(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return two-class logits, the encoder's last map, and the words' states.

        Their shapes are (B, 2, S/4, S/4), (B, C, S/32, S/32) and (B, L, T).
        """

    @staticmethod
    def output(two_class: Tensor) -> Output:
        """Return a network's two-class logits (m, 2, h, w) as an output, in float32 or better."""
        two_class = at_least_float32(two_class)
        return Output(two_class[:, 1:] - two_class[:, :1], {"two_class": two_class})

    @staticmethod
    def upsample(two_class: Tensor, size: tuple[int, int]) -> Tensor:
        """Return two-class logits (m, 2, h, w) at `size`.

        They are resized bilinearly with align_corners True, as published.
        """
        return F.interpolate(two_class, size, mode="bilinear", align_corners=True)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return class-weighted cross-entropy at input size.

        Torch divides it by the sum of the weights of the targets, as published.
        """
        two_class = self.upsample(output.extras["two_class"], batch.targets.shape[-2:])
        weight = self.class_weights.to(two_class.dtype)
        target = (batch.targets[:, 0] > 0.5).long()
        return {"cross_entropy": F.cross_entropy(two_class, target, weight)}

    def distillation(self, student: Output, teacher: Output) -> Tensor:
        """Return the same cross-entropy against the teacher's probabilities, at stride 4.

        This is the form of MaskRIS' published code, which is for CARIS.
        """
        # With soft targets torch divides by the number of pixels, not by a sum of weights.
        target = teacher.extras["two_class"].softmax(1)
        weight = self.class_weights.to(target.dtype)
        return F.cross_entropy(student.extras["two_class"], target, weight)

    @staticmethod
    def optimizer_groups(
        parameters: Mapping[str, list[nn.Parameter]], recipe: Recipe
    ) -> list[dict[str, Any]]:
        """Return what `parameter_groups` returns, for group name -> parameters.

        Groups whose name ends in `_no_decay` do not decay.
        """
        return [
            {
                "name": name,
                "params": members,
                "weight_decay": 0.0 if name.endswith("_no_decay") else recipe.weight_decay,
            }
            for name, members in parameters.items()
        ]

    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return where the referent's logit exceeds the background's, at the original size."""
        at_input = resize(logits, (geometry.size, geometry.size), align_corners=True)
        return restore(at_input, geometry) > 0
