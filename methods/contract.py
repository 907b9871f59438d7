"""What a method is, namely a network with its published loss and recipe.

A method never knows about MaskRIS, and a strategy never knows which method it drives.
Everything that the suite needs of a network goes through the classes here. What can be
said of a method without its network, its `Definition`, stands in `config.py`.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.base.geometry import Geometry
from methods.config import DataNeeds, Definition, Purpose, Recipe
from methods.precision import at_least_float32
from methods.weights import PublishedWeights


@dataclasses.dataclass
class Text:
    """Sentences as a network takes them.

    Attributes:
        ids: int64 (B, L), padded with the tokenizer's pad id.
        attention: int64 (B, L), 1 at the positions of the *original* sentence, special
            ids included. Masking words leaves it untouched.
    """

    ids: Tensor
    attention: Tensor

    def to(self, device: torch.device) -> Text:
        """Return the same sentences on `device`."""
        return Text(
            self.ids.to(device, non_blocking=True), self.attention.to(device, non_blocking=True)
        )

    def __getitem__(self, index: Any) -> Text:
        return Text(self.ids[index], self.attention[index])

    def __len__(self) -> int:
        return len(self.ids)


@dataclasses.dataclass
class Hidden:
    """What one forward pass must not see.

    A learned token takes the place wherever a mask is True. A network replaces
    embeddings, not pixels or ids, so images and sentences of the batch stay as they are.

    Attributes:
        patches: bool (B, N), True at the patches of the image tower that are hidden, in
            row-major order. None where none is hidden.
        words: bool (B, L), True at the word pieces that are hidden. None where none is
            hidden.
    """

    patches: Tensor | None = None
    words: Tensor | None = None


@dataclasses.dataclass
class Batch:
    """Training samples of one forward pass.

    Attributes:
        images: float32 (B, 3, S, S), normalized.
        text: the B sentences.
        targets: float32 (B, 1, S, S) in [0, 1], soft at edges where the method's
            geometry interpolates the mask. None in a masked pass, which never sees the
            target.
        samples: the B numbers of the samples, which key the random numbers.
        negatives: B * K sentences of other referents, or None.
        hidden: what this pass must not see, or None. Only a method that has learned
            tokens for it is given any.
    """

    images: Tensor
    text: Text
    targets: Tensor | None
    samples: list[int]
    negatives: Text | None = None
    hidden: Hidden | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclasses.dataclass
class Output:
    """What a network says.

    Attributes:
        logits: (B, 1, h, w), the foreground logit of each image with its own sentence,
            at the network's own output stride. A two-class network gives z1 - z0. SaG
            gives its score, which is a probability.
        extras: what else the method's loss or mask needs, by name.
    """

    logits: Tensor
    extras: dict[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Aligned:
    """Features that tell how well parts of an image and of its sentence go together.

    All tensors are detached, and float32 or more precise. `places` and `sentence` share
    a width, and so do `words` and `image`: each pair lies in one space, where a dot
    product says something. `places` and `words` need not.

    Attributes:
        places: (B, C, h, w), features of the image's places.
        words: (B, L, D), features of the sentence's word pieces.
        image: (B, D), the image as a whole, for a method that has it.
        sentence: (B, C), the sentence as a whole, for a method that has it.
    """

    places: Tensor
    words: Tensor
    image: Tensor | None = None
    sentence: Tensor | None = None


class Method(nn.Module, abc.ABC):
    """A network with its published loss and recipe.

    Class attributes:
        definition: what is known of the method without its network, such as its
            variants and recipes.
        network_type: class of the network, which is built from a configuration and the
            number of word pieces.
        weights: the method's `weights.py`, or None where nobody publishes weights of it.
        blocks: types of the network's modules that hold most of its activations. Where
            memory is short, each of them is computed again in the backward pass. No block
            contains another.

    Attributes:
        precision: in which its passes are computed, as `Recipe.precision` names it. That
            of a run is the same in training and in evaluation.
    """

    definition: ClassVar[Definition]
    network_type: ClassVar[type[nn.Module]]
    weights: ClassVar[PublishedWeights | None] = None
    blocks: ClassVar[tuple[type[nn.Module], ...]] = ()
    precision: str = "fp32"

    def __init__(self, config: Any, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.network = self.network_type(config, vocabulary_size)

    @property
    @abc.abstractmethod
    def needs(self) -> DataNeeds:
        """What this network wants to be fed."""

    def fed(self, **how: Any) -> DataNeeds:
        """Return the needs that `how` completes.

        Size and length are the configuration's. Word pieces, sentences and what an
        epoch counts are the definition's.
        """
        family, field = self.definition.text
        return DataNeeds(
            size=self.config.size,
            max_length=self.config.max_length,
            tokenizer=family,
            text_field=field,
            unit=self.definition.unit,
            **how,
        )

    def draws(self, generators: Sequence[np.random.Generator]) -> dict[str, Tensor]:
        """Return the noise of B images that both passes of a step share.

        Most methods have none. Every tensor is on the CPU and has leading dimension B.
        The noise is keyed by image, so it does not depend on the image's neighbors.

        Args:
            generators: the B random generators, one per image.
        """
        return {}

    @abc.abstractmethod
    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return the output for `batch`.

        Training enters the network here and nowhere else, since this is what DDP and
        compile wrap.

        Args:
            batch: B samples.
            draws: what `draws` returned for them, on the batch's device.
            purpose: `loss` computes what the loss needs, and `prediction` only what each
                image and its own sentence give.
        """

    @abc.abstractmethod
    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Any:
        """Return the part of the prediction that needs no text.

        It is a tensor or a nest of tensors with leading dimension n. A method that fuses
        text inside its visual encoder returns the images.

        Args:
            images: float32 (n, 3, S, S), normalized.
            draws: what `draws` returned for them, on their device.
        """

    @abc.abstractmethod
    def segment(self, features: Any, text: Text) -> Output:
        """Return the prediction for m pairs of an image and a sentence.

        Args:
            features: m rows of what `encode_image` returned.
            text: the m sentences.
        """

    @abc.abstractmethod
    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the published objective by name.

        They are scalars, and training minimizes their sum.
        """

    @abc.abstractmethod
    def distillation(self, student: Output, teacher: Output) -> Tensor:
        """Return MaskRIS' L_dist, a scalar, in the method's own loss form (equation 4).

        Args:
            student: output of the masked pass.
            teacher: output of the clean pass, detached.
        """

    @abc.abstractmethod
    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return the method's decision, bool (height, width), at the original image size.

        Args:
            logits: (h, w), one map of `Output.logits`.
            geometry: how the image became the network input.
        """

    @abc.abstractmethod
    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Return optimizer groups, and stop the training of what the recipe freezes.

        A group is a dict with `name`, `params` and, where it is not the recipe's,
        `weight_decay`.
        """

    @abc.abstractmethod
    def schedule(self, recipe: Recipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the learning rate of every parameter group at a step, counted from 0.

        It is a pure function, so a resumed run needs no scheduler state.
        """

    def pseudo_mask(self, image: Tensor, text: Text, geometry: Geometry) -> np.ndarray:
        """Return one mask of a training referent, bool (height, width), at original size.

        Args:
            image: (1, 3, S, S), normalized.
            text: all sentences of the referent.
            geometry: how the image became the network input.

        Raises:
            UserError: the method makes none.
        """
        raise UserError(
            f"{self.definition.name} makes no pseudo masks: name a run of a method that does."
        )

    def loss_scale(self, recipe: Recipe, step: int) -> float:
        """Return the factor of every loss at a step, counted from 0.

        It is 1 for most methods.
        """
        return 1.0


class AuxiliaryMethod(Method):
    """A method whose loss asks a frozen network beside its own, as TRIS asks a CLIP."""

    @property
    @abc.abstractmethod
    def auxiliary_passes(self) -> tuple[int, int] | None:
        """Epochs and batch size of the auxiliary's own training, which comes first.

        That training sees whole images and their sentences. It is None where a published
        auxiliary is taken.
        """

    @abc.abstractmethod
    def train_auxiliary(
        self, pairs: Iterable[tuple[Tensor, Tensor]], steps: int, device: torch.device
    ) -> dict[str, Tensor]:
        """Return the auxiliary's weights after its own training.

        It is called only where `auxiliary_passes` is not None.

        Args:
            pairs: batches of normalized images (B, 3, S, S) and ids (B, L) of a
                sentence of each.
            steps: number of batches.
            device: device of the training.
        """

    @abc.abstractmethod
    def load_auxiliary(self, state: Mapping[str, Tensor]) -> None:
        """Take the auxiliary's weights.

        They are those of `train_auxiliary`, or the entries `auxiliary.*` of the starting
        weights.

        Args:
            state: the auxiliary's state dict, without the prefix `auxiliary.`.
        """


class GuidedMethod(Method):
    """A method that hands out the features with which it brings image and text together.

    A strategy that chooses by relevance what to hide needs them. AMLRIS (ICLR 2026)
    scores places against words. CM-MaskSD (IEEE TMM 2024) scores places against the
    sentence and words against the image. The method says which features belong
    together, and the strategy scores, ranks and draws.

    An output of purpose "loss" holds these features among its extras, under the names of
    the fields of `Aligned`. The method's `Definition.guides` says so without the network.
    """

    def aligned(self, output: Output) -> Aligned:
        """Return these features of the clean pass, from an output of purpose "loss"."""
        names = [field.name for field in dataclasses.fields(Aligned)]
        return Aligned(
            **{
                name: at_least_float32(output.extras[name].detach())
                for name in names
                if name in output.extras
            }
        )
