"""TRIS' first step as a method.

Its three losses need sentences alone. They, the decision, the parameter groups and the
schedule are the published ones.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.base.geometry import Geometry, resize
from methods.backbones import clip
from methods.config import IMAGENET_MEAN, IMAGENET_STD, DataNeeds, Purpose
from methods.contract import AuxiliaryMethod, Batch, GuidedMethod, Output, Text
from methods.precision import at_least_float32
from methods.tris import auxiliary, pseudo, weights
from methods.tris.config import DEFINITION, TrisConfig, TrisRecipe
from methods.tris.network import TrisNetwork

# What both steps are fed. The towers are CLIP's, but the normalization is ImageNet's
# (published).
INPUT = {"geometry": "square", "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "keep_end": False}

# The score of a constant map that stands beside those of the texts.
BACKGROUND = 1.0
# The penalty on maps that cover little of an image.
FOCAL_POWER = 3
FOCAL_OFFSET = 0.01
# The bounds of a cosine whose logarithm is taken.
SMALLEST = 1e-4
LARGEST = 0.9999


def coverage(scores: Tensor) -> Tensor:
    """Return the mean share (B, N) that each text takes of an image.

    The share is a softmax of scores (B, N, h, w) per location, over the texts and a
    constant background.
    """
    background = torch.full_like(scores[:, :1], BACKGROUND)
    return torch.cat([background, scores], 1).softmax(1)[:, 1:].mean((2, 3))


def classification_logits(scores: Tensor) -> Tensor:
    """Return whether an image shows what a text says, as logits (B, N).

    Each is the sum of the mean and the maximum of a map of scores (B, N, h, w), and of
    a focal penalty on maps that cover little.
    """
    share = coverage(scores)
    penalty = (1 - share) ** FOCAL_POWER * (FOCAL_OFFSET + share).log()
    return scores.mean((2, 3)) + scores.amax((2, 3)) + penalty


def decide(response: Tensor, geometry: Geometry) -> np.ndarray:
    """Return TRIS' decision, bool (height, width), on a map at input size (S, S).

    It is resized with align_corners True, divided by its maximum, and must exceed 1e-9.
    """
    original = resize(response, (geometry.height, geometry.width), align_corners=True)
    # Published: the division changes the sign of a map that is negative throughout.
    return (original / (original.max() + 1e-5) > 1e-9).cpu().numpy()


class TRIS(AuxiliaryMethod, GuidedMethod):
    """TRIS: Referring Image Segmentation Using Text Supervision (ICCV 2023), step 1.

    `auxiliary` is the frozen CLIP of the loss. It is no submodule, so it is neither
    trained nor switched to train mode nor part of the state dict. A run starts it anew
    from its weights. `sentences` keeps what it says of sentences.
    """

    definition = DEFINITION
    network_type = TrisNetwork
    weights = weights
    blocks = clip.BLOCKS

    def __init__(self, config: TrisConfig, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        # An ordinary assignment would make it a submodule.
        self.__dict__["auxiliary"] = auxiliary.build(config.auxiliary, vocabulary_size)
        self.sentences = auxiliary.Sentences(self.auxiliary)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # What `to` and its like do to the method, they do to the auxiliary, too.
        self.auxiliary._apply(fn, recurse)
        self.sentences.forget()
        return super()._apply(fn, recurse)

    @property
    def auxiliary_passes(self) -> tuple[int, int] | None:
        """Epochs and batch size of the auxiliary's training, or None for a published one."""
        training = self.config.auxiliary.training
        return None if training is None else (training.epochs, training.batch_size)

    def train_auxiliary(
        self, pairs: Iterable[tuple[Tensor, Tensor]], steps: int, device: torch.device
    ) -> dict[str, Tensor]:
        """Return the weights of a fresh auxiliary after `steps` batches of images and ids."""
        vocabulary_size = self.auxiliary.vocab_size
        return auxiliary.train(self.config.auxiliary, vocabulary_size, pairs, steps, device)

    def load_auxiliary(self, state: Mapping[str, Tensor]) -> None:
        """Take the auxiliary's weights.

        Raises:
            RuntimeError: they do not fit.
        """
        self.auxiliary.load_state_dict(state)
        self.sentences.forget()

    @property
    def needs(self) -> DataNeeds:
        """TRIS wants a square whatever the aspect ratio and sentences of other referents.

        It never wants a mask.
        """
        return self.fed(**INPUT, negatives=self.config.negatives, masks="none")

    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return the own pairs' scores (B, 1, S/32, S/32).

        In train mode, and for the loss, a pair's score depends on all sentences of the
        batch (published). In eval mode every pair stands alone. The extras of the loss
        are `scores` (B, B, S/32, S/32) of all images and sentences, and what the
        auxiliary says: `foreground` (B, 1) and `negatives` (B, K), cosines of what an
        own map leaves visible with the own sentence and with those of other referents.
        Beside them are `places` (B, C, S/32, S/32), scaled so that a channel is near 1,
        and `words` (B, L, D).
        """
        v = self.encode_image(batch.images, draws)
        if purpose == "prediction" and not self.training:
            return self.segment(v, batch.text)
        words, t = self.network.encode_words(batch.text.ids)
        t = t[None]
        scores = at_least_float32(self.network.score(v, t))
        own = torch.arange(len(batch), device=scores.device)
        logits = scores[own, own][:, None]
        if purpose == "prediction":
            return Output(logits)
        maps = self.upsample(logits).sigmoid()
        visible = auxiliary.embed_visible(self.auxiliary, batch.images, maps)[:, None]
        said = self.sentences.embed(batch.text.ids)[:, None]
        others = self.sentences.embed(batch.negatives.ids).unflatten(0, (len(batch), -1))
        # Under autocast a matrix product would round cosines, whose logarithm is taken,
        # to eight bits.
        foreground, negatives = ((visible * texts).sum(-1) for texts in (said, others))
        extras = {"scores": scores, "foreground": foreground, "negatives": negatives}
        # Unit vectors have tiny channels, which no random projection would tell apart.
        places = v.detach() * v.shape[1] ** 0.5
        return Output(logits, extras | {"places": places, "words": words})

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """Return projected and normalized visual features (n, C, S/32, S/32)."""
        return self.network.encode_image(images)

    def segment(self, features: Tensor, text: Text) -> Output:
        """Return scores (m, 1, S/32, S/32), every pair as if it were alone."""
        t = self.network.encode_text(text.ids)[:, None]
        return Output(at_least_float32(self.network.score(features, t)))

    def upsample(self, logits: Tensor) -> Tensor:
        """Return scores (B, 1, h, w) at input size (bilinear, align_corners False)."""
        return F.interpolate(logits, (self.config.size,) * 2, mode="bilinear", align_corners=False)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses. They need no mask, so `batch.targets` is not read.

        `foreground` asks that what an own map leaves visible is what the sentence says.
        `classification` asks which text of the batch is the image's. `negative` asks that
        what is visible is not what is said of others.
        """
        scores = output.extras["scores"]
        config = self.config
        # Two refs of one image count as each other's negatives (published).
        same = torch.eye(len(scores), device=scores.device)
        margin = F.multilabel_soft_margin_loss(classification_logits(scores), same)
        # A cosine may be negative, and its logarithm is then NaN. The first release did
        # not clamp it.
        similarity = output.extras["foreground"].clamp(SMALLEST, LARGEST)
        return {
            "foreground": -config.foreground_weight * similarity.log().mean(),
            "classification": config.classification_weight * margin,
            "negative": -config.negative_weight * (1 - output.extras["negatives"]).log().mean(),
        }

    def distillation(self, student: Output, teacher: Output) -> Tensor:
        """Return binary cross-entropy of the own pairs' scores against the teacher's sigmoid.

        The scores are at stride 32. TRIS itself takes their sigmoid for soft foreground,
        and 0.5 is its decision. No published code says how MaskRIS was put on TRIS.
        """
        return F.binary_cross_entropy_with_logits(student.logits, teacher.logits.sigmoid())

    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return where the score is positive, at the original size."""
        # Published: it is clipped at 0 between two interpolations, so masks grow by up
        # to a pixel.
        response = resize(logits, (geometry.size,) * 2, align_corners=False).relu()
        return decide(response, geometry)

    def pseudo_mask(self, image: Tensor, text: Text, geometry: Geometry) -> np.ndarray:
        """Return the map of the sentence that agrees best with all of them (PRMS).

        It is decided as at test. The published refinement, IRNet with a dense CRF, is
        left out.
        """
        features = self.encode_image(image, {}).expand(len(text), -1, -1, -1)
        responses = self.upsample(self.segment(features, text).logits).relu()
        similarities = pseudo.response_similarities(self.auxiliary, image, responses, text.ids)
        return decide(pseudo.select_response(responses[:, 0], similarities), geometry)

    def parameter_groups(self, recipe: TrisRecipe) -> list[dict[str, Any]]:
        """Return `backbone` (both towers) and `rest`, as published."""
        network = self.network
        # It is in neither group (published), so it stays at 1 / 0.07.
        network.logit_scale.requires_grad_(False)
        rest = (network.vis_project, network.lan_project, network.attn_fusion)
        return [
            {"name": "backbone", "params": list(network.backbone.parameters())},
            {"name": "rest", "params": [p for module in rest for p in module.parameters()]},
        ]

    def schedule(self, recipe: TrisRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the rates of `backbone` and `rest`, which decay per iteration."""
        rate = recipe.rate(step, steps_per_epoch)
        return [recipe.backbone_multiplier * rate, rate]
