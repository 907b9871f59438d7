"""What the name of a fixture's array says about the run of the network that it comes from."""

import dataclasses
import re
from typing import Any

QUANTITIES = (
    "eval_logits",
    "eval_full",
    "train_logits",
    "train_loss",
    "grad_norms",
    "running_stat_norms_after",
)
STEP_QUANTITIES = (
    "maskris_losses",
    "maskris_second_logits",
    "maskris_grad_norms",
    "maskris_total_grad_norm",
)
"""What a fixture of one published two-pass step holds. These names take no suffix."""
STEP_INPUTS = ("ids", "attention_mask", "masked_ids", "image_mask")
"""The sentences and masks of that step, which such a fixture holds too."""


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """How an array is compared.

    Attributes:
        limit: largest allowed difference. relative: whether it is relative.
        float64: whether the network runs in float64.
        noisy: the one norm, of several by name, that may differ ten times as much.
    """

    limit: float
    relative: bool = False
    float64: bool = False
    noisy: str = ""

    def __str__(self) -> str:
        return f"{self.limit:.0e}{' relative' if self.relative else ''}"


@dataclasses.dataclass(frozen=True)
class Run:
    """One pass of the network, which several arrays may share.

    Attributes:
        train: train mode (no dropout, batch statistics) with a backward pass.
        float64: precision.
        words: `fill.words` in place of the text encoder's output.
        image: (batch, height, width, seed) of the input.
        tokens: (length, seed) of the sentences.
        fill_seed: seed of the weights.
        step: a two-pass step of MaskRIS in place of the one pass, on the fixture's
            `STEP_INPUTS`.
    """

    train: bool
    float64: bool
    words: bool
    image: tuple[int, int, int, int]
    tokens: tuple[int, int]
    fill_seed: int
    step: bool = False


def parse(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the quantity that `name` starts with and the suffixes that follow, or None
    if the rule does not know them.
    """
    for quantity in QUANTITIES:
        if name == quantity or name.startswith(f"{quantity}_"):
            suffixes = tuple(filter(None, name[len(quantity) :].split("_")))
            known = r"alt|words|all|float64|sub|strided|b\d+|len\d+|fill\d+|\d+x\d+"
            return (
                (quantity, suffixes)
                if all(re.fullmatch(known, suffix) for suffix in suffixes)
                else None
            )
    return None


def plain(name: str) -> str:
    """Return the name of the same array for the first input, without the suffix `alt`."""
    return "_".join(part for part in name.split("_") if part != "alt")


def _number(suffixes: tuple[str, ...], prefix: str, default: int) -> int:
    found = [
        int(suffix[len(prefix) :]) for suffix in suffixes if re.fullmatch(rf"{prefix}\d+", suffix)
    ]
    return found[0] if found else default


def run_of(
    name: str,
    quantity: str,
    suffixes: tuple[str, ...],
    tolerance: Tolerance,
    config: dict[str, Any],
) -> Run:
    """Return the pass that the array `name` comes from. `config["inputs"]` wins where
    it names the array.
    """
    seed = config["seed_alt"] if "alt" in suffixes else config["seed"]
    height = width = config.get("size_alt", config["size"]) if "alt" in suffixes else config["size"]
    for suffix in suffixes:
        if re.fullmatch(r"\d+x\d+", suffix):
            height, width = map(int, suffix.split("x"))
    image = (_number(suffixes, "b", config["batch"]), height, width, seed)
    tokens = (_number(suffixes, "len", config["words"]), seed)
    if name in (inputs := config.get("inputs", {})):
        image, tokens = tuple(inputs[name]["image"]), tuple(inputs[name]["tokens"][1:])
    fill_seed = _number(suffixes, "fill", config.get("fill_seed", 0))
    train = not quantity.startswith("eval")
    step = quantity in STEP_QUANTITIES
    return Run(train, tolerance.float64, "words" in suffixes, image, tokens, fill_seed, step)
