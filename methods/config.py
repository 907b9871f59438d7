"""What can be said of a method without computing with it.

That is its sizes, its recipes and what it wants to be fed. Planning a matrix, reading a
run's spec and printing a report need this and no network. So nothing here, in
`methods/__init__.py` or in a method's own `config.py` imports torch. What computes
stands in `contract.py` and in each method's `method.py` and `network.py`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from benchmark.base.errors import UserError

if TYPE_CHECKING:
    from methods.contract import Method

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
AUTOCAST = ("bf16", "fp16")  # precisions of `Recipe` that are computed by autocast
Purpose = Literal["loss", "prediction"]

# Specs are stored, and keys are made, under names that never change. A field that
# Python calls by another name has its stored name as an alias.
WIRE = ConfigDict(
    extra="forbid",
    frozen=True,
    validate_by_name=True,
    validate_by_alias=True,
    serialize_by_alias=True,
)


def revised(revision: int, *variants: str) -> dict[tuple[str, str], int]:
    """Return the revisions after a fix that changed the numbers of variants in every precision.

    Args:
        revision: of these variants.
        variants: names of those whose numbers changed.
    """
    return dict.fromkeys(itertools.product(variants, get_args(Precision)), revision)


def added(default: Any, **limits: Any) -> Any:
    """Return a field of a recipe or network that came after runs had been made.

    A spec holds it, and a key depends on it, only where it differs from its default. The
    default is what runs without the field did, so it never changes.

    Args:
        default: what the code did before there was the field.
        limits: of its value, as `pydantic.Field` takes them.
    """
    return Field(default=default, exclude_if=lambda value: value == default, **limits)


@dataclasses.dataclass(frozen=True)
class DataNeeds:
    """What a method wants to be fed.

    Attributes:
        size: side of the square network input, in pixels.
        geometry: how an image becomes that square. `square` resizes it without keeping
            the aspect ratio. `letterbox` keeps the ratio and pads. It works in index
            space, so the target stays soft at edges.
        mean: what is subtracted from each channel of RGB in [0, 1].
        std: what each channel is divided by after that.
        text_field: sentence field of a ref that the published loader reads.
        tokenizer: family of word pieces.
        max_length: ids per sentence, special ones included. Longer sentences are cut as
            published.
        keep_end: whether a sentence of CLIP's word pieces keeps its end id when it is
            cut.
        unit: what an epoch counts. It is every ref once with one of its sentences, or
            every expression once.
        negatives: sentences of other referents that are drawn per sample. Most methods
            draw 0.
        masks: what `Batch.targets` holds in training: the annotated masks, pseudo masks
            that another network made, or nothing. Where it is nothing, no mask is read.
    """

    size: int
    geometry: Literal["square", "letterbox"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    text_field: Literal["sent", "raw"]
    tokenizer: Literal["bert", "clip"]
    max_length: int
    keep_end: bool = True
    unit: Literal["ref", "expression"] = "ref"
    negatives: int = 0
    masks: Literal["annotated", "pseudo", "none"] = "annotated"


class Recipe(BaseModel):
    """How a method is trained.

    Methods add fields in a subclass. Every field is part of the run key, and a new one is
    `added`.

    Attributes:
        epochs: passes over the training units.
        batch_size: samples per optimizer step, over all devices and accumulated
            micro-batches.
        micro_batch: samples that pass through the network together, over all devices.
            BatchNorm and losses over a batch see these. batch_size / micro_batch
            forward passes are accumulated into one step.
        learning_rate: base rate, which the method's schedule scales.
        weight_decay: decay of the optimizer. A method's groups may exempt parameters.
        optimizer: `adam` or `adamw`, with torch's defaults otherwise.
        clip_norm: largest global gradient norm, or null for no clipping.
        precision: what the passes are computed in, in training and in evaluation. `fp32`
            is float32 throughout, in convolutions, too. `tf32` is the same with products
            whose factors a GPU rounds to TensorFloat-32. `bf16` and `fp16` are autocast,
            and `fp16` comes with a gradient scaler.
        drop_last: whether an epoch's incomplete last batch is dropped.
    """

    model_config = WIRE

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    micro_batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    optimizer: Literal["adam", "adamw"] = Field(alias="optimiser")
    clip_norm: float | None = Field(default=None, gt=0)
    precision: Precision = "fp32"
    drop_last: bool = True

    def smallest_micro_batch(self, units: int) -> int:
        """Return the number of samples of the smallest micro-batch of an epoch.

        Args:
            units: training units of an epoch.
        """
        last = units % self.batch_size
        # An incomplete last batch is dropped unless it is the only one.
        if last and (not self.drop_last or units < self.batch_size):
            return last % self.micro_batch or self.micro_batch
        return self.micro_batch

    def stretched(self, factor: float) -> dict[str, Any]:
        """Return the changes that make the training and its schedule `factor` times as
        long.

        Raises:
            UserError: the result is no whole number of epochs.
        """
        epochs = self.epochs * factor
        if epochs < 1 or epochs != round(epochs):
            raise UserError(
                f"{factor:g} times {self.epochs} epochs is no whole number of epochs:"
                " change recipe.epochs."
            )
        return {"epochs": round(epochs)}


class PolynomialRecipe(Recipe):
    """A recipe whose learning rate decays polynomially.

    Attributes:
        power: exponent of the decay.
    """

    power: float = 0.9

    def rate(self, iteration: int, steps_per_epoch: int) -> float:
        """Return the learning rate at an iteration, counted from 0.

        It is the base rate times (1 - iteration / all iterations) ** power, and 0 from
        the end of the training on.
        """
        remaining = max(0.0, 1 - iteration / (self.epochs * steps_per_epoch))
        return self.learning_rate * remaining**self.power


class Config(BaseModel):
    """The size of a network, which tells `tiny` from `paper`.

    Methods add fields in a subclass. Every field is part of the run key, and a new one is
    `added`.

    Attributes:
        size: side of the network input, in pixels.
        max_length: ids per sentence, special ones included.
        departures: sentences that say in plain words where this variant departs from
            the published training. `paper` has none.
        pretrained: name of the starting weights of the encoders, or `scratch`.
    """

    model_config = WIRE

    size: int
    max_length: int = Field(alias="words")
    departures: tuple[str, ...] = ()
    pretrained: str = "scratch"


# Compared by identity: there is one definition of a method, and its mappings have no hash.
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Definition:
    """The description of a method, known without importing its network.

    Attributes:
        name: the method's name in the registry.
        load: imports and returns the `Method` subclass. Nothing else of a definition
            imports torch.
        config_type: the method's subclass of `Config`.
        recipe_type: the method's subclass of `Recipe`.
        variants: variant name -> its configuration. `paper` is the published one.
        recipes: variant name -> its recipe. A variant that nobody published has one that
            is derived from the published one.
        text: family of word pieces and sentence field, as in `DataNeeds`. A vocabulary
            is made from them.
        unit: what an epoch counts, as in `DataNeeds`.
        weakly_supervised: whether training never sees an annotated mask. Tables then
            say that the epoch was chosen on masks of val.
        couples_batch: whether a sample's loss depends on the others of its batch, if only
            by a denominator. Such a batch is not dealt to several processes.
        batch_norm: what a network of it normalizes by statistics of the batch while it is
            trained, or None. The maps of one sample have such statistics, and one vector a
            sample has none where the sample is alone.
        draws_negatives: whether a sample needs sentences of other referents, as
            `DataNeeds.negatives` says.
        guides: whether the method is a `GuidedMethod`, which hands out the features that bring
            image and text together.
        hides: whether its network has learned tokens that take the place of what a pass must
            not see, so that it reads `Batch.hidden`.
        choices: what no publication decides and this suite did, a sentence each. Reports print
            them under every table with the method.
        stage: which part of a published procedure of several the numbers are of. Tables
            name it.
        has_published_weights: whether the method has a `weights.py`, and so reads and
            writes published checkpoints.
        targets_from: the method whose finished run makes the pseudo masks that this one
            is trained on, or None.
        revisions: (variant, precision) -> revision. A fix that changes numbers raises
            the revision of what it changes, and of nothing else. Where nothing is said
            it is 1. `revision` adds 1 where autocast computes.

    Raises:
        UserError: a variant has no recipe, or there is a recipe without a variant.
    """

    name: str
    load: Callable[[], type[Method]]
    config_type: type[Config]
    recipe_type: type[Recipe]
    variants: Mapping[str, Config]
    recipes: Mapping[str, Recipe]
    text: tuple[Literal["bert", "clip"], Literal["sent", "raw"]]
    unit: Literal["ref", "expression"] = "ref"
    weakly_supervised: bool = False
    couples_batch: bool = False
    batch_norm: Literal["maps", "vectors"] | None = None
    draws_negatives: bool = False
    guides: bool = False
    hides: bool = False
    choices: tuple[str, ...] = ()
    stage: str = ""
    has_published_weights: bool = False
    targets_from: str | None = None
    revisions: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if alone := sorted(self.variants.keys() ^ self.recipes.keys()):
            raise UserError(
                f"the method {self.name} needs one recipe for each of its variants:"
                f" look at '{alone[0]}'."
            )

    def config_for(self, variant: str, dataset: str) -> Config:
        """Return the configuration of `variant`, adapted to `dataset` where it is published so."""
        return self.variants[variant]

    def revision(self, variant: str, precision: str) -> int:
        """Return the revision of a variant in a precision, which is part of the run key."""
        own = self.revisions.get((variant, precision), 1)
        # Evaluation was always in float32 once, so runs with autocast have other numbers since.
        return own + (precision in AUTOCAST)
