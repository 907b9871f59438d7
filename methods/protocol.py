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
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from benchmark.data.geometry import Geometry
from benchmark.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

Purpose = Literal["loss", "prediction"]


@dataclasses.dataclass(frozen=True)
class DataNeeds:
    """What a method wants to be fed.

    Attributes:
        size: side of the square network input, in pixels.
        geometry: how an image becomes that square: `square` (resize, aspect ratio not kept; LAVT) or `letterbox` (CRIS'
            index-space letterbox; its target stays soft at edges).
        mean, std: per-channel normalisation of RGB in [0, 1].
        text_field: the sentence field of a ref that the published loader reads.
        tokeniser: the family of word pieces.
        words: ids per sentence, special ones included; longer sentences are cut as published.
        keep_end: whether a sentence of CLIP's word pieces keeps its end id when it is cut (TRIS loses it).
        unit: what an epoch counts: every ref once with one of its sentences, or every expression once.
        negatives: sentences of other referents drawn per sample (TRIS); 0 for most.
        masks: what `Batch.targets` holds in training: the annotated masks, pseudo masks that another network made, or nothing,
            in which case no mask is read.
    """

    size: int
    geometry: Literal["square", "letterbox"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    text_field: Literal["sent", "raw"]
    tokeniser: Literal["bert", "clip"]
    words: int
    keep_end: bool = True
    unit: Literal["ref", "expression"] = "ref"
    negatives: int = 0
    masks: Literal["annotated", "pseudo", "none"] = "annotated"


@dataclasses.dataclass
class Text:
    """Sentences as a network takes them.

    Attributes:
        ids: int64 (B, L), padded with the tokeniser's pad id.
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


class Recipe(BaseModel):
    """How a method is trained. Methods subclass it for what only they have; every field is part of the run key.

    Attributes:
        epochs: passes over the training units.
        batch_size: samples per optimiser step, over all devices and accumulated micro-batches.
        micro_batch: samples that pass through the network together (what BatchNorm and batch losses see), over all devices;
            batch_size / micro_batch forward passes are accumulated into one step.
        learning_rate: base rate.
        weight_decay: of the optimiser; a method's groups may exempt parameters.
        optimiser: `adam` or `adamw`, torch's defaults otherwise.
        clip_norm: largest global gradient norm, or null for no clipping.
        precision: `fp32`, `bf16` or `fp16` autocast (fp16 with a gradient scaler).
        drop_last: whether an epoch's incomplete last batch is dropped.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    micro_batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    optimiser: Literal["adam", "adamw"]
    clip_norm: float | None = Field(default=None, gt=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    drop_last: bool = True

    def stretched(self, factor: float) -> dict[str, Any]:
        """Return the changes that make the training `factor` times as long, its schedule stretched alike.

        Raises:
            UserError: that is no whole number of epochs.
        """
        epochs = self.epochs * factor
        if epochs < 1 or epochs != round(epochs):
            raise UserError(
                f"{factor:g} times {self.epochs} epochs is no whole number of epochs: change recipe.epochs."
            )
        return {"epochs": round(epochs)}


class Config(BaseModel):
    """The size of a network: what tells `tiny` from `paper`. Methods subclass it.

    Attributes:
        size: side of the network input in pixels.
        words: ids per sentence.
        departures: in plain words, where this variant departs from the published training (empty for `paper`).
        pretrained: name of the starting weights of the encoders, or `scratch`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    words: int
    departures: tuple[str, ...] = ()
    pretrained: str = "scratch"


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
        return DataNeeds(size=self.config.size, words=self.config.words, tokeniser=family, text_field=field, **how)

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
        """Return optimiser groups: dicts with `name`, `params` and, where it is not the recipe's, `weight_decay`."""

    @abc.abstractmethod
    def schedule(self, recipe: Recipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the learning rate of every parameter group at optimiser step `step` (from 0): a pure function, so that a
        resumed run needs no scheduler state."""

    def pseudo_mask(self, image: Tensor, text: Text, geometry: Geometry) -> np.ndarray:
        """Return one mask, bool (height, width) at the original size, of a training referent from its normalised image
        (1, 3, S, S) and all its sentences. Raises UserError where the method makes none."""
        raise UserError(f"{self.name} makes no pseudo masks.")

    def loss_scale(self, recipe: Recipe, step: int) -> float:
        """Return what every loss of optimiser step `step` (from 0) is multiplied by before its gradient is taken: 1 for most."""
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
