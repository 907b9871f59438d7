"""SaG as a method: published losses, decision, parameter groups and schedule. Training never sees a mask."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.base.geometry import Geometry, restore
from methods.backbones.bert import BertSize
from methods.backbones.vit import VitSize
from methods.config import DataNeeds, Purpose, Recipe
from methods.contract import Batch, Method, Output, Text
from methods.sag import weights
from methods.sag.network import Features, SagConfig, SagNetwork

_CERTAIN = 1e-6  # probabilities are kept this far from 0 and 1 where their logarithm is taken
_SCRATCH = (
    "trained from scratch: ViT and BERT start from random weights, not from the published ones",
    "backbone_multiplier 1: a ViT that starts from random weights needs the full learning rate",
    "word pieces trained on the training sentences in place of BERT's 30,522",
    "a higher learning rate than the published one, which fine-tunes, and a warm-up as short as the training",
    "a smaller ViT, BERT and slots, and a position table of the input's own size",
)


class SagRecipe(Recipe):
    """SaG's training schedule.

    Attributes:
        warmup_steps: iterations in which the *loss* grows linearly to its full size, and in which the rate does not decay.
        backbone_multiplier: rate of the ViT relative to the rest.
    """

    warmup_steps: int = 5000
    backbone_multiplier: float = 0.1


class SaG(Method):
    """SaG: Shatter and Gather (ICCV 2023)."""

    name = "sag"
    network_type = SagNetwork
    weakly_supervised = True
    couples_batch = True
    recipe_type = SagRecipe
    text = ("bert", "sent")
    weights = weights
    variants: ClassVar[dict[str, SagConfig]] = {
        "paper": SagConfig.published(),
        "small": SagConfig(
            size=192,
            max_length=24,
            vit=VitSize(width=256, layers=6, heads=4, mlp=1024, positions=12),
            bert=BertSize(hidden=256, layers=4, heads=4, intermediate=1024, positions=32),
            width=256,
            head_width=64,
            group_head_width=64,
            feed_forward=1024,
            departures=_SCRATCH,
        ),
        "tiny": SagConfig(
            size=64,
            max_length=20,
            vit=VitSize(width=64, layers=2, heads=4, mlp=128, patch=8, positions=8, drop_path=0.02),
            bert=BertSize(hidden=64, layers=1, heads=4, intermediate=128, positions=32),
            width=64,
            groups=4,
            iterations=3,
            head_width=16,
            group_head_width=16,
            feed_forward=128,
            departures=(*_SCRATCH, "12 slots and 3 iterations in place of 36 and 6, drop path 0.02 in place of 0.1"),
        ),
    }
    recipes: ClassVar[dict[str, SagRecipe]] = {
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
    }

    @property
    def needs(self) -> DataNeeds:
        """A square whatever the aspect ratio, in [-1, 1]; every expression is a sample, without its mask."""
        return self.fed(
            geometry="square",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            unit="expression",
            masks="none",
        )

    def draws(self, generators: Sequence[np.random.Generator]) -> dict[str, Tensor]:
        """Return the noise of the slots, `slots` (B, S, C), standard normal. Evaluation draws it, too (published)."""
        shape = (self.config.slots, self.config.width)
        drawn = [generator.standard_normal(shape, dtype=np.float32) for generator in generators]
        return {"slots": torch.from_numpy(np.stack(drawn))}

    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return the score map (B, 1, h, w) of the own pairs; for the loss also, in `extras`, `sentences` (B, C), `gathered`
        (B images, B sentences, C), `tokens` and their `reconstruction`, both (B, h * w, T)."""
        if purpose == "prediction":
            return self.segment(self.encode_image(batch.images, draws), batch.text)
        network = self.network
        features, tokens = network.encode_image(batch.images, draws["slots"])
        sentences = network.encode_text(batch.text.ids, batch.text.attention)
        gathered, shares = network.cma(sentences.expand(len(sentences), -1, -1), features.slots)
        score = network.score(features.maps, shares.diagonal().T)
        extras = {
            "sentences": sentences,
            "gathered": gathered,
            "tokens": tokens,
            "reconstruction": network.decoder(features.slots, *features.maps.shape[-2:]),
        }
        return Output(_precise(score), {name: _precise(value) for name, value in extras.items()})

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Features:
        """Return slots (n, S, C) and their maps (n, S, h, w)."""
        return self.network.encode_image(images, draws["slots"])[0]

    def segment(self, features: Features, text: Text) -> Output:
        """Return the score map (m, 1, h, w), between 0 and 1."""
        sentences = self.network.encode_text(text.ids, text.attention)
        _, shares = self.network.cma(sentences[:, None], features.slots)
        return Output(_precise(self.network.score(features.maps, shares[:, 0])))

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the two losses: every sentence finds its image among those of the batch, by what it gathers of
        each; and the slots reconstruct the ViT's tokens.

        The sentence is not normalised, so its length is an inverse temperature, and, like the tokens, it is a constant here.
        """
        extras = output.extras
        similarity = torch.einsum("nc,inc->ni", extras["sentences"].detach(), extras["gathered"])
        own = torch.arange(len(similarity), device=similarity.device)
        return {
            "contrastive": F.cross_entropy(similarity, own),
            "reconstruction": F.mse_loss(extras["reconstruction"], extras["tokens"].detach()),
        }

    def distillation(self, student: Output, teacher: Output) -> Tensor:
        """Return the binary cross-entropy of the raw score maps, which are probabilities as they are, at their own stride."""
        return F.binary_cross_entropy(student.logits.clamp(_CERTAIN, 1 - _CERTAIN), teacher.logits)

    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return where the score, stretched to 0 to 1 over the image at its original size, is at least 0.5."""
        score = restore(logits, geometry)
        low, high = score.min(), score.max()
        return (score - low) / (high - low + 1e-9) >= 0.5

    def parameter_groups(self, recipe: SagRecipe) -> list[dict[str, Any]]:
        """Return the ViT and the rest; all decay."""
        backbone = list(self.network.encoders["img_enc"].img_backbone.parameters())
        known = set(map(id, backbone))
        rest = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        return [{"name": "backbone", "params": backbone}, {"name": "rest", "params": rest}]

    def schedule(self, recipe: SagRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the rates of both groups: a cosine per iteration as long as the training that starts to fall only after the
        warm-up, and so never reaches 0."""
        turned = max(0, step - recipe.warmup_steps) / (recipe.epochs * steps_per_epoch)
        rate = recipe.learning_rate * (1 + math.cos(math.pi * turned)) / 2
        return [recipe.backbone_multiplier * rate, rate]

    def loss_scale(self, recipe: SagRecipe, step: int) -> float:
        """Return the warm-up, which is one of the loss. Behind Adam and a small `clip_norm` it changes next to nothing."""
        return min(1.0, (step + 1) / max(recipe.warmup_steps, 1))


def _precise(value: Tensor) -> Tensor:
    """Return a tensor in float32 or better, whatever precision the network ran in."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
