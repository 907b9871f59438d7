"""What is known of GPUs: one file `speeds/<card>.json` each, measured or from a data sheet.

`python -m tests.speed gpu --card-file FILE` writes such a file for the card that it runs on. A
command takes the name of a shipped file, such as `h100`, or the path of another one.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmark.base.errors import choose
from benchmark.base.files import parse_json, read_model, read_text
from methods.config import Precision

SPEEDS = Path(__file__).parent / "speeds"
REFERENCE = "h100"  # the card with the most measurements, from which others are estimated
# What the context of CUDA, libraries and the fragments of freed memory leave to tensors.
USABLE = 0.92


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Rates(_Part):
    """How fast a card multiplies dense matrices and copies memory.

    Attributes:
        fp32: floating-point operations a second in this precision.
        tf32: the same in TensorFloat-32.
        bf16: the same in bfloat16.
        fp16: the same in float16 with sums in float32.
        bytes: bytes read and written a second.
    """

    fp32: float = Field(gt=0)
    tf32: float = Field(gt=0)
    bf16: float = Field(gt=0)
    fp16: float = Field(gt=0)
    bytes: float = Field(gt=0)

    def flops(self, precision: Precision) -> float:
        """Return the floating-point operations a second in a precision."""
        return getattr(self, precision)


class Step(_Part):
    """One training step on one card.

    Attributes:
        method: the registered name of the method.
        variant: its size.
        strategy: the registered name of the strategy.
        passes: its passes of a step, as `Strategy.passes` says.
        precision: of the recipe.
        pairs: image-sentence pairs that go through the network together.
        seconds: of the step.
        flops: floating-point operations of the step.
        peak_bytes: the most memory of tensors, or None where it is not known.
        source: `measured` by this suite, or `published` by somebody else.
    """

    method: str
    variant: str
    strategy: str
    passes: float = Field(gt=0)
    precision: Precision
    pairs: int = Field(gt=0)
    seconds: float = Field(gt=0)
    flops: float = Field(gt=0)
    peak_bytes: int | None = Field(None, gt=0)
    source: Literal["measured", "published"]


class Card(_Part):
    """A GPU.

    Attributes:
        card: its name, as its driver says it.
        source: where the numbers are from.
        memory_bytes: all of its memory.
        peak: the rates of its data sheet, or None where nobody has looked them up.
        measured: the rates that were measured, or None.
        steps: training steps on it.
    """

    card: str
    source: str
    memory_bytes: int = Field(gt=0)
    peak: Rates | None = None
    measured: Rates | None = None
    steps: tuple[Step, ...] = ()

    @model_validator(mode="after")
    def _is_known(self) -> Card:
        if self.peak is None and self.measured is None:
            raise ValueError("it needs the rates `peak` or `measured`")
        return self

    @property
    def usable_bytes(self) -> float:
        """The memory that tensors can take."""
        return USABLE * self.memory_bytes

    def rates(self) -> Rates:
        """Return how fast the card is.

        Where it was not measured, it reaches the share of its data sheet that the reference does.
        """
        if self.measured:
            return self.measured
        reference = card(REFERENCE)
        return Rates(
            **{
                name: peak * getattr(reference.measured, name) / getattr(reference.peak, name)
                for name, peak in self.peak
            }
        )


def names() -> list[str]:
    """Return the names of the shipped cards."""
    return sorted(path.stem for path in SPEEDS.glob("*.json"))


@functools.cache
def card(name: str) -> Card:
    """Return the card of a shipped file, or of the JSON file `name`.

    Raises:
        UserError: there is no such card (the message lists the nearest names), or its file is
            damaged.
    """
    is_file = name.endswith(".json")
    path = Path(name) if is_file else SPEEDS / f"{choose(name.lower(), names(), 'card')}.json"
    text = read_text(path, "card", names())
    return read_model(Card, parse_json(text.encode(), path), f"card {path.name}")
