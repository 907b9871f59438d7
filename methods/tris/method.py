"""TRIS as a method: three losses that need sentences alone, published decision, parameter groups and schedule."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.base.geometry import Geometry, resize
from methods.backbones.clip import SMALL, TINY
from methods.config import IMAGENET_MEAN, IMAGENET_STD, DataNeeds, Purpose, Recipe
from methods.contract import AuxiliaryMethod, Batch, Output, Text
from methods.tris import auxiliary, pseudo, weights
from methods.tris.auxiliary import AuxiliaryConfig, AuxiliaryTraining
from methods.tris.network import TrisConfig, TrisNetwork

BACKGROUND = 1.0  # the score of a constant map beside the texts'
FOCAL_POWER, FOCAL_OFFSET = 3, 0.01
SMALLEST, LARGEST = 1e-4, 0.9999  # of a cosine whose logarithm is taken
_SCRATCH = (
    "trained from scratch: CLIP's towers start from random weights, not from the published ones",
    "the auxiliary is not OpenAI's ViT-B/32 but a small CLIP, first trained on whole training images and their sentences",
    "backbone_multiplier 1: towers that start from random weights need the full learning rate",
    "word pieces trained on the training sentences in place of CLIP's 49,408",
    "a higher learning rate than the published one, which fine-tunes",
)


class TrisRecipe(Recipe):
    """TRIS' training schedule.

    Attributes:
        power: of the polynomial decay, per iteration.
        backbone_multiplier: rate of the CLIP towers relative to the rest.
    """

    power: float = 0.9
    backbone_multiplier: float = 0.1
    drop_last: bool = False


_PUBLISHED = TrisRecipe(
    epochs=15, batch_size=48, micro_batch=48, learning_rate=5e-5, weight_decay=1e-2, optimizer="adamw"
)
_PAPER = TrisConfig(size=320, max_length=20, pretrained="openai-RN50+openai-ViT-B-32")


def polynomial_decay(recipe: TrisRecipe, iteration: int, steps_per_epoch: int) -> float:
    """Return the rate at an iteration: the base rate times (1 - iteration / all iterations) ** power."""
    return recipe.learning_rate * (1 - iteration / (recipe.epochs * steps_per_epoch)) ** recipe.power


def coverage(scores: Tensor) -> Tensor:
    """Return the mean share (B, N) that each text takes of an image, for scores (B, N, h, w): a softmax per location over the
    texts and a constant background."""
    return torch.cat([torch.full_like(scores[:, :1], BACKGROUND), scores], 1).softmax(1)[:, 1:].mean((2, 3))


def classification_logits(scores: Tensor) -> Tensor:
    """Return whether an image shows what a text says, as logits (B, N), for scores (B, N, h, w): average and maximum of the map,
    and a focal penalty on maps that cover little."""
    share = coverage(scores)
    return scores.mean((2, 3)) + scores.amax((2, 3)) + (1 - share) ** FOCAL_POWER * (FOCAL_OFFSET + share).log()


def decide(response: Tensor, geometry: Geometry) -> np.ndarray:
    """Return TRIS' decision, bool (height, width), on a map at input size (S, S): resized with align_corners True, divided by its
    maximum, > 1e-9. A map that is negative throughout changes its sign there (published)."""
    original = resize(response, (geometry.height, geometry.width), align_corners=True)
    return (original / (original.max() + 1e-5) > 1e-9).cpu().numpy()


class TRIS(AuxiliaryMethod):
    """TRIS: Referring Image Segmentation Using Text Supervision (ICCV 2023), step 1.

    `auxiliary` is the frozen CLIP of the loss. It is no submodule, so neither trained, nor switched to train mode, nor part of
    the state dict: a run starts it anew from its weights.
    """

    name = "tris"
    network_type = TrisNetwork
    stage = "step 1"
    weakly_supervised = True
    couples_batch = True
    recipe_type = TrisRecipe
    text = ("clip", "sent")
    weights = weights
    variants: ClassVar[dict[str, TrisConfig]] = {
        "paper": _PAPER,
        "paper-head": _PAPER.model_copy(update={"foreground_weight": 1.0, "negative_weight": 2.0, "negatives": 3}),
        "small": TrisConfig(
            size=224,
            max_length=20,
            clip=SMALL,
            auxiliary=AuxiliaryConfig(
                embed=256,
                layers=6,
                width=192,
                patch=16,
                text_width=256,
                text_heads=4,
                text_layers=4,
                context=32,
                training=AuxiliaryTraining(epochs=10, batch_size=128, learning_rate=5e-4),
            ),
            hidden=512,
            departures=_SCRATCH,
        ),
        "tiny": TrisConfig(
            size=96,
            max_length=20,
            clip=TINY,
            auxiliary=AuxiliaryConfig(
                embed=64,
                layers=2,
                width=64,
                image_size=64,
                patch=16,
                text_width=64,
                text_heads=4,
                text_layers=2,
                context=20,
                training=AuxiliaryTraining(epochs=3, batch_size=32, learning_rate=1e-3),
            ),
            hidden=128,
            departures=_SCRATCH,
        ),
    }
    recipes: ClassVar[dict[str, TrisRecipe]] = {
        "paper": _PUBLISHED,
        "paper-head": _PUBLISHED,
        "small": TrisRecipe(
            epochs=20,
            batch_size=64,
            micro_batch=64,
            learning_rate=3e-4,
            weight_decay=1e-2,
            optimizer="adamw",
            precision="bf16",
            backbone_multiplier=1.0,
        ),
        "tiny": TrisRecipe(
            epochs=3,
            batch_size=16,
            micro_batch=16,
            learning_rate=3e-4,
            weight_decay=1e-2,
            optimizer="adamw",
            backbone_multiplier=1.0,
        ),
    }

    def __init__(self, config: TrisConfig, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        self.__dict__["auxiliary"] = auxiliary.build(config.auxiliary, vocabulary_size)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TRIS":
        self.auxiliary._apply(fn, recurse)  # it moves with the method
        return super()._apply(fn, recurse)

    @property
    def auxiliary_passes(self) -> tuple[int, int] | None:
        """(epochs, batch size) of the auxiliary's training; None where a published one is taken."""
        training = self.config.auxiliary.training
        return None if training is None else (training.epochs, training.batch_size)

    def train_auxiliary(
        self, pairs: Iterable[tuple[Tensor, Tensor]], steps: int, device: torch.device
    ) -> dict[str, Tensor]:
        """Return the weights of a fresh auxiliary after `steps` batches of images and ids; on a CPU a function of these alone."""
        return auxiliary.train(self.config.auxiliary, self.auxiliary.vocab_size, pairs, steps, device)

    def load_auxiliary(self, state: Mapping[str, Tensor]) -> None:
        """Take the auxiliary's weights; some that do not fit raise a RuntimeError."""
        self.auxiliary.load_state_dict(state)

    @property
    def needs(self) -> DataNeeds:
        """A square whatever the aspect ratio, CLIP's word pieces, but ImageNet's normalisation (published), and negatives."""
        return self.fed(
            geometry="square",
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            keep_end=False,
            negatives=self.config.negatives,
            masks="none",
        )

    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return the own pairs' scores (B, 1, S/32, S/32).

        In train mode, and for the loss, a pair's score depends on all sentences of the batch (published); in eval mode every
        pair stands alone. The extras of the loss: `scores` (B, B, S/32, S/32) of all images and sentences, and what the
        auxiliary says: `foreground` (B, 1) and `negatives` (B, K), cosines of what an own map leaves visible with the own
        sentence and with those of other referents.
        """
        v = self.encode_image(batch.images, draws)
        if purpose == "prediction" and not self.training:
            return self.segment(v, batch.text)
        scores = auxiliary.at_least_float32(self.network.score(v, self.network.encode_text(batch.text.ids)[None]))
        own = torch.arange(len(batch), device=scores.device)
        logits = scores[own, own][:, None]
        if purpose == "prediction":
            return Output(logits)
        visible = auxiliary.embed_visible(self.auxiliary, batch.images, self.upsample(logits).sigmoid())[:, None]
        said = auxiliary.embed_words(self.auxiliary, batch.text.ids)[:, None]
        others = auxiliary.embed_words(self.auxiliary, batch.negatives.ids).unflatten(0, (len(batch), -1))
        # Not a matrix product: under autocast that would round cosines, whose logarithm is taken, to eight bits.
        foreground, negatives = ((visible * texts).sum(-1) for texts in (said, others))
        return Output(logits, {"scores": scores, "foreground": foreground, "negatives": negatives})

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """Return projected and normalised visual features (n, C, S/32, S/32)."""
        return self.network.encode_image(images)

    def segment(self, features: Tensor, text: Text) -> Output:
        """Return scores (m, 1, S/32, S/32), every pair as if it were alone."""
        return Output(
            auxiliary.at_least_float32(self.network.score(features, self.network.encode_text(text.ids)[:, None]))
        )

    def upsample(self, logits: Tensor) -> Tensor:
        """Return scores (B, 1, h, w) at input size (bilinear, align_corners False)."""
        return F.interpolate(logits, (self.config.size,) * 2, mode="bilinear", align_corners=False)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses, which need no mask; `batch.targets` is not read.

        `foreground`: what an own map leaves visible is what the sentence says. `classification`: which text of the batch is
        the image's; two refs of one image count as each other's negatives. `negative`: it is not what is said of others.
        """
        scores, config = output.extras["scores"], self.config
        same = torch.eye(len(scores), device=scores.device)
        similarity = output.extras["foreground"].clamp(SMALLEST, LARGEST)
        return {
            "foreground": -config.foreground_weight * similarity.log().mean(),
            "classification": config.classification_weight
            * F.multilabel_soft_margin_loss(classification_logits(scores), same),
            "negative": -config.negative_weight * (1 - output.extras["negatives"]).log().mean(),
        }

    def distillation(self, student: Output, teacher: Output) -> Tensor:
        """Return binary cross-entropy of the own pairs' scores against the teacher's sigmoid, at stride 32.

        Its sigmoid is what TRIS itself takes for soft foreground, and 0.5 is its decision. No published code says how MaskRIS
        was put on TRIS.
        """
        return F.binary_cross_entropy_with_logits(student.logits, teacher.logits.sigmoid())

    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return where the score is positive. It is clipped at 0 between two interpolations, so masks grow by up to a pixel."""
        return decide(resize(logits, (geometry.size,) * 2, align_corners=False).relu(), geometry)

    def pseudo_mask(self, image: Tensor, text: Text, geometry: Geometry) -> np.ndarray:
        """Return the map of the sentence that agrees best with all of them (PRMS), decided as at test.

        The published refinement, IRNet with a dense CRF, is left out.
        """
        features = self.encode_image(image, {})
        responses = self.upsample(self.segment(features.expand(len(text), -1, -1, -1), text).logits).relu()
        similarities = pseudo.response_similarities(self.auxiliary, image, responses, text.ids)
        return decide(pseudo.select_response(responses[:, 0], similarities), geometry)

    def parameter_groups(self, recipe: TrisRecipe) -> list[dict[str, Any]]:
        """Return `backbone` (both towers) and `rest`, as published; `logit_scale` is in neither and frozen."""
        network = self.network
        network.logit_scale.requires_grad_(False)
        rest = (network.vis_project, network.lan_project, network.attn_fusion)
        return [
            {"name": "backbone", "params": list(network.backbone.parameters())},
            {"name": "rest", "params": [parameter for module in rest for parameter in module.parameters()]},
        ]

    def schedule(self, recipe: TrisRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the rates of `backbone` and `rest`: polynomial decay per iteration."""
        rate = polynomial_decay(recipe, step, steps_per_epoch)
        return [recipe.backbone_multiplier * rate, rate]
