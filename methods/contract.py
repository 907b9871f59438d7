"""What a method is: a network with its published loss and recipe, driven without knowing who drives it.

A method never knows about MaskRIS; a strategy never knows which method it drives. Everything the suite needs of a network
goes through the classes here.
"""

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.base.geometry import Geometry
from methods.config import Config, DataNeeds, Purpose, Recipe


@dataclasses.dataclass
class Text:
    """Sentences as a network takes them.

    Attributes:
        ids: int64 (B, L), padded with the tokenizer's pad id.
        attention: int64 (B, L), 1 at the positions of the *original* sentence, special ids included; masking words leaves it
            untouched.
    """

    ids: Tensor
    attention: Tensor

    def to(self, device: torch.device) -> "Text":
        """Return the same sentences on `device`."""
        return Text(self.ids.to(device, non_blocking=True), self.attention.to(device, non_blocking=True))

    def __getitem__(self, index: Any) -> "Text":
        return Text(self.ids[index], self.attention[index])

    def __len__(self) -> int:
        return len(self.ids)


@dataclasses.dataclass
class Batch:
    """Training samples of one forward pass.

    Attributes:
        images: float32 (B, 3, S, S), normalised.
        text: B sentences.
        targets: float32 (B, 1, S, S) in [0, 1]; soft at edges where the method's geometry interpolates the mask. None in a
            masked pass, which never sees the target.
        samples: the B sample numbers, which key the draws.
        negatives: B * K sentences of other referents, or None.
    """

    images: Tensor
    text: Text
    targets: Tensor | None
    samples: list[int]
    negatives: Text | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclasses.dataclass
class Output:
    """What a network says.

    Attributes:
        logits: (B, 1, h, w) foreground logit of the own pairs at the network's own output stride (a two-class network: z1 - z0;
            SaG: its score, a probability).
        extras: what else the method's loss or mask needs, by name.
    """

    logits: Tensor
    extras: dict[str, Tensor] = dataclasses.field(default_factory=dict)


class PublishedWeights(Protocol):
    """What a method's module `weights.py` holds: the one place that knows foreign names. All names are those of the method's
    attribute `network`; published state dicts are flat and without `module.`.

    Attributes:
        UNNEEDED: regular expression over published names -> why the network has no such entry.
    """

    UNNEEDED: dict[str, str]

    def starting_weights(self, config: Any) -> dict[str, Tensor]:
        """Return the published encoder weights that `config.pretrained` names; asked for unless that is `scratch`.

        Raises:
            UserError: they cannot be had or have another layout; the message says what to fetch and where to put it.
        """

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a published state dict under own names; names that it does not know pass through."""

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the network's state dict under published names, with every buffer that the authors' code stores."""

    def checkpoint(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the same wrapped as the authors' code wraps it in a file."""


class Method(nn.Module, abc.ABC):
    """A network with its published loss and recipe.

    Class attributes:
        name: the registry name.
        revision: raised when a fix changes the method's numbers; part of the run key.
        weakly_supervised: whether training never sees a mask (its tables say that the epoch was chosen on masks of val).
        couples_batch: whether a sample's loss depends on the others of its batch, which then is not dealt to several processes.
        recipe_type: the method's `Recipe` subclass.
        variants: variant name -> its `Config`.
        recipes: variant name -> its published (or, for tiny and small, derived) recipe.
        text: family of word pieces and sentence field, as in `needs`: what a vocabulary is made from.
        network_type: the network, built from a configuration and the number of word pieces.
        weights: the method's `weights.py`; None where nobody publishes weights of it.
        stage: which part of a published procedure of several the numbers are of; tables name it.
    """

    name: ClassVar[str]
    revision: ClassVar[int] = 1
    weakly_supervised: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False
    recipe_type: ClassVar[type[Recipe]] = Recipe
    variants: ClassVar[dict[str, Config]]
    recipes: ClassVar[dict[str, Recipe]]
    text: ClassVar[tuple[Literal["bert", "clip"], Literal["sent", "raw"]]]
    network_type: ClassVar[type[nn.Module]]
    weights: ClassVar[PublishedWeights | None] = None
    stage: ClassVar[str] = ""

    def __init__(self, config: Any, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.network = self.network_type(config, vocabulary_size)

    @classmethod
    def config_for(cls, variant: str, dataset: str) -> Config:
        """Return the configuration of `variant`, adapted to `dataset` where the published one is (CRIS: 22 words on RefCOCOg)."""
        return cls.variants[variant]

    @property
    @abc.abstractmethod
    def needs(self) -> DataNeeds:
        """What this network wants to be fed."""

    def fed(self, **how: Any) -> DataNeeds:
        """Return the needs that `how` completes: size and words are the configuration's, sentences those of `text`."""
        family, field = self.text
        return DataNeeds(
            size=self.config.size, max_length=self.config.max_length, tokenizer=family, text_field=field, **how
        )

    def draws(self, generators: Sequence[np.random.Generator]) -> dict[str, Tensor]:
        """Return noise of B images that both passes of a step share, one keyed generator per image; empty for most methods.

        On the CPU, every tensor with leading dimension B: an image's noise does not depend on its neighbours.
        """
        return {}

    @abc.abstractmethod
    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return the output for `batch`; purpose "loss" computes what the loss needs, "prediction" the own pairs alone.

        Training enters the network here and nowhere else: this is what DDP and compile wrap.
        """

    @abc.abstractmethod
    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Any:
        """Return the part of the prediction that needs no text, for images (n, 3, S, S) and their noise: a tensor or a nest of
        tensors with leading dimension n. A method that fuses text inside its visual encoder returns the images."""

    @abc.abstractmethod
    def segment(self, features: Any, text: Text) -> Output:
        """Return the prediction for m sentences and the m features that belong to them (rows of `encode_image`)."""

    @abc.abstractmethod
    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the published objective term by term (scalars; their sum is minimised)."""

    @abc.abstractmethod
    def distillation(self, student: Output, teacher: Output) -> Tensor:
        """Return MaskRIS' L_dist (a scalar) in the method's own loss form; `teacher` is detached."""

    @abc.abstractmethod
    def mask(self, logits: Tensor, geometry: Geometry) -> np.ndarray:
        """Return the method's decision, bool (height, width) at the original image size, from one logit map (h, w)."""

    @abc.abstractmethod
    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Return optimizer groups: dicts with `name`, `params` and, where it is not the recipe's, `weight_decay`."""

    @abc.abstractmethod
    def schedule(self, recipe: Recipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the learning rate of every parameter group at optimizer step `step` (from 0): a pure function, so that a
        resumed run needs no scheduler state."""

    def pseudo_mask(self, image: Tensor, text: Text, geometry: Geometry) -> np.ndarray:
        """Return one mask, bool (height, width) at the original size, of a training referent from its normalised image
        (1, 3, S, S) and all its sentences. Raises UserError where the method makes none."""
        raise UserError(f"{self.name} makes no pseudo masks.")

    def loss_scale(self, recipe: Recipe, step: int) -> float:
        """Return what every loss of optimizer step `step` (from 0) is multiplied by before its gradient is taken: 1 for most."""
        return 1.0


class AuxiliaryMethod(Method):
    """A method whose loss asks a frozen network beside the one that is trained (TRIS: a CLIP)."""

    @property
    @abc.abstractmethod
    def auxiliary_passes(self) -> tuple[int, int] | None:
        """(epochs, batch size) over whole training images and their sentences with which the auxiliary is trained first; None
        where a published one is taken."""

    @abc.abstractmethod
    def train_auxiliary(
        self, pairs: Iterable[tuple[Tensor, Tensor]], steps: int, device: torch.device
    ) -> dict[str, Tensor]:
        """Return the auxiliary's weights after `steps` batches of normalised images (B, 3, S, S) and ids (B, L) of a sentence of
        each: asked for where `auxiliary_passes` is not None."""

    @abc.abstractmethod
    def load_auxiliary(self, state: Mapping[str, Tensor]) -> None:
        """Take the auxiliary's weights, trained or published (`auxiliary.*` of the starting weights)."""
