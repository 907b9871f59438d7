"""TODO."""

import dataclasses
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmark.base.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

Purpose = Literal["loss", "prediction"]

# Specs are stored, and keys are made, under names that never change: a field that Python calls otherwise
# has its stored name as an alias.
WIRE = ConfigDict(
    extra="forbid",
    frozen=True,
    validate_by_name=True,
    validate_by_alias=True,
    serialize_by_alias=True,
)


@dataclasses.dataclass(frozen=True)
class DataNeeds:
    """What a method wants to be fed.

    Attributes:
        size: side of the square network input, in pixels.
        geometry: how an image becomes that square: `square` (resize, aspect ratio not kept; LAVT) or `letterbox` (CRIS'
            index-space letterbox; its target stays soft at edges).
        mean, std: per-channel normalisation of RGB in [0, 1].
        text_field: the sentence field of a ref that the published loader reads.
        tokenizer: the family of word pieces.
        max_length: ids per sentence, special ones included; longer sentences are cut as published.
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
    tokenizer: Literal["bert", "clip"]
    max_length: int
    keep_end: bool = True
    unit: Literal["ref", "expression"] = "ref"
    negatives: int = 0
    masks: Literal["annotated", "pseudo", "none"] = "annotated"


class Recipe(BaseModel):
    """How a method is trained. Methods subclass it for what only they have; every field is part of the run key.

    Attributes:
        epochs: passes over the training units.
        batch_size: samples per optimizer step, over all devices and accumulated micro-batches.
        micro_batch: samples that pass through the network together (what BatchNorm and batch losses see), over all devices;
            batch_size / micro_batch forward passes are accumulated into one step.
        learning_rate: base rate.
        weight_decay: of the optimizer; a method's groups may exempt parameters.
        optimizer: `adam` or `adamw`, torch's defaults otherwise.
        clip_norm: largest global gradient norm, or null for no clipping.
        precision: `fp32`, `bf16` or `fp16` autocast (fp16 with a gradient scaler).
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
        max_length: ids per sentence, special ones included.
        departures: in plain words, where this variant departs from the published training (empty for `paper`).
        pretrained: name of the starting weights of the encoders, or `scratch`.
    """

    model_config = WIRE

    size: int
    max_length: int = Field(alias="words")
    departures: tuple[str, ...] = ()
    pretrained: str = "scratch"
