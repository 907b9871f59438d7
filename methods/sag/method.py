"""SaG as a method.

The losses, the decision, the parameter groups and the schedule are the published ones.
Training never sees a mask.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor

from benchmark.base.geometry import Geometry, restore
from methods.config import DataNeeds, Purpose
from methods.contract import Batch, GuidedMethod, Output, Text
from methods.precision import at_least_float32
from methods.sag import weights
from methods.sag.config import DEFINITION, SagRecipe
from methods.sag.network import Features, SagNetwork
from methods.sag.slots import SlotBlock

# Probabilities are kept this far from 0 and 1 where their logarithm is taken.
_CERTAIN = 1e-6


class SaG(GuidedMethod):
    """SaG: Shatter and Gather (ICCV 2023)."""

    definition = DEFINITION
    network_type = SagNetwork
    weights = weights
    blocks = (Block, SlotBlock)

    @property
    def needs(self) -> DataNeeds:
        """SaG wants a square whatever the aspect ratio, in [-1, 1], and never a mask.

        Each expression is a sample of its own.
        """
        return self.fed(
            geometry="square",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            masks="none",
        )

    def draws(self, generators: Sequence[np.random.Generator]) -> dict[str, Tensor]:
        """Return the noise of the slots, `slots` (B, S, C), standard normal.

        Evaluation draws it, too (published).
        """
        shape = (self.config.slots, self.config.width)
        drawn = [generator.standard_normal(shape, dtype=np.float32) for generator in generators]
        return {"slots": torch.from_numpy(np.stack(drawn))}

    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return the score map (B, 1, h, w) of the own pairs.

        The extras of the loss are `sentences` (B, C), `gathered` (B, B, C) of all images
        and all sentences, and `tokens` and their `reconstruction`, both (B, h * w, T).
        Beside them are `places` (B, T, h, w), the same tokens, and `words` (B, L, D).
        """
        if purpose == "prediction":
            return self.segment(self.encode_image(batch.images, draws), batch.text)
        network = self.network
        features, tokens = network.encode_image(batch.images, draws["slots"])
        words, sentences = network.encoders["txt_enc"].encode(batch.text.ids, batch.text.attention)
        # Every sentence gathers the slots of every image. Own pairs are the diagonal.
        gathered, shares = network.cma(sentences.expand(len(sentences), -1, -1), features.slots)
        score = network.score(features.maps, shares.diagonal().T)
        extras = {
            "sentences": sentences,
            "gathered": gathered,
            "tokens": tokens,
            "reconstruction": network.decoder(features.slots, *features.maps.shape[-2:]),
            "places": tokens.detach().transpose(1, 2).unflatten(-1, features.maps.shape[-2:]),
            "words": words.detach(),
        }
        extras = {name: at_least_float32(value) for name, value in extras.items()}
        return Output(at_least_float32(score), extras)

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Features:
        """Return slots (n, S, C) and their maps (n, S, h, w)."""
        return self.network.encode_image(images, draws["slots"])[0]

    def segment(self, features: Features, text: Text) -> Output:
        """Return the score map (m, 1, h, w), between 0 and 1."""
        sentences = self.network.encode_text(text.ids, text.attention)
        _, shares = self.network.cma(sentences[:, None], features.slots)
        return Output(at_least_float32(self.network.score(features.maps, shares[:, 0])))

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the two losses.

        In `contrastive`, every sentence finds its image among those of the batch, by what
        it gathers of each. In `reconstruction`, the slots paint the ViT's tokens.
        """
        extras = output.extras
        # The sentence is not normalized, so its length is an inverse temperature. Like
        # the tokens below it is a constant here, since the text encoder learns by what
        # the sentence gathers (published).
        similarity = torch.einsum("nc,inc->ni", extras["sentences"].detach(), extras["gathered"])
        own = torch.arange(len(similarity), device=similarity.device)
        return {
            "contrastive": F.cross_entropy(similarity, own),
            "reconstruction": F.mse_loss(extras["reconstruction"], extras["tokens"].detach()),
        }

    def distillation(self, student: Output, teacher: Output) -> Tensor:
        """Return the binary cross-entropy of the score maps at their own stride.

        A score is a probability as it is.
        """
        score = student.logits.clamp(_CERTAIN, 1 - _CERTAIN)
        return F.binary_cross_entropy(score, teacher.logits)

    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return where the score is at least 0.5, stretched to 0 to 1 at the original size."""
        score = restore(logits, geometry)
        low, high = score.min(), score.max()
        return (score - low) / (high - low + 1e-9) >= 0.5

    def parameter_groups(self, recipe: SagRecipe) -> list[dict[str, Any]]:
        """Return the ViT and the rest, which both decay."""
        backbone = list(self.network.encoders["img_enc"].img_backbone.parameters())
        known = set(map(id, backbone))
        rest = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        return [{"name": "backbone", "params": backbone}, {"name": "rest", "params": rest}]

    def schedule(self, recipe: SagRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the rates of both groups, a cosine per iteration after the warm-up."""
        # Published: the scheduler moves behind each update that has the whole loss, the last of
        # the warm-up included.
        moves = max(0, step - max(recipe.warmup_steps, 1) + 1)
        # Published: the cosine is as long as the whole training, so it never reaches 0.
        turned = moves / (recipe.epochs * steps_per_epoch)
        rate = recipe.learning_rate * (1 + math.cos(math.pi * turned)) / 2
        return [recipe.backbone_multiplier * rate, rate]

    def loss_scale(self, recipe: SagRecipe, step: int) -> float:
        """Return the warm-up, which is one of the loss.

        Behind Adam and a small `clip_norm` it changes next to nothing.
        """
        return min(1.0, (step + 1) / max(recipe.warmup_steps, 1))
