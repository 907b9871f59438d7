"""Image corruptions: the 19 of `imagecorruptions` at severities 1 to 5, a function of the image, its id and the condition alone.

They are applied to the image at its original size, before any preprocessing. Which corruptions a named set holds, and why, is
in `corruptions.yaml`.
"""

import dataclasses
import functools
import importlib.metadata
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml

from benchmark.base.errors import UserError, choose
from benchmark.base.rng import generator
from benchmark.data.refer import Ref, ReferDataset

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32  # pixels: what the library takes
TAKES_SEED = ("impulse_noise", "glass_blur")  # draw from generators of their own, the others from numpy's global one


LIBRARIES = ("imagecorruptions-imaug", "numba", "numpy", "opencv-python", "pillow", "scikit-image", "scipy")


def made_with() -> dict[str, str]:
    """Return library -> version of what decides the bits of a changed image."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


@functools.cache
def _file() -> dict[str, dict[str, list[str]]]:
    return yaml.safe_load((Path(__file__).parent / "corruptions.yaml").read_text())


def families() -> dict[str, tuple[str, ...]]:
    """Return family -> its corruptions: noise, blur, weather, digital."""
    return {name: tuple(members) for name, members in _file()["families"].items()}


def family_of(corruption: str) -> str:
    """Return the family of a corruption."""
    return next(name for name, members in families().items() if corruption in members)


def sets() -> dict[str, tuple[str, ...]]:
    """Return the named sets: `common` (15), `maskris` (17) and `all` (19)."""
    named = {name: tuple(members) for name, members in _file()["sets"].items()}
    held_out = [name for members in families().values() for name in members if name not in named["common"]]
    return {**named, "all": (*named["common"], *held_out)}


def resolve(names: Iterable[str]) -> tuple[str, ...]:
    """Return the corruptions that names of corruptions and of sets stand for, each once.

    Raises:
        UserError: a name is neither; the message lists the nearest.
    """
    known = sets()
    found: dict[str, None] = {}
    for name in names:
        choose(name, (*known, *known["all"]), "corruption")
        found |= dict.fromkeys(known.get(name, (name,)))
    return tuple(found)


def corrupt(image: np.ndarray, corruption: str, severity: int, image_id: int) -> np.ndarray:
    """Return a corrupted copy of an RGB image, both uint8 (height, width, 3).

    Every draw is keyed by (image_id, corruption, severity): the same call gives the same bits in any process and order, and
    numpy's global generator is left as it was. With another build of Pillow `jpeg_compression` and `pixelate` may differ.

    Raises:
        UserError: a name or severity is not known, or the image is smaller than 32 pixels.
    """
    choose(corruption, sets()["all"], "corruption")
    choose(str(severity), map(str, SEVERITIES), "severity")
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        raise UserError(
            f"image {image_id} is {width} x {height} pixels and the corruptions need {SMALLEST} x {SMALLEST} or more: use the"
            " original images, or take it out of the data set."
        )
    import imagecorruptions  # scikit-image and numba: a second that other commands need not wait

    seed = int(generator("corruption", image_id, corruption, severity).integers(2**31))
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        own = {"seed": seed} if corruption in TAKES_SEED else {}
        with np.errstate(invalid="raise" if corruption == "spatter" else "warn"):
            return imagecorruptions.corrupt(image, severity, corruption, **own)
    except FloatingPointError:
        # `spatter` divides by its strongest drop; on a very small image there may be none, and nothing to see then.
        return image.copy()
    finally:
        np.random.set_state(state)


@dataclasses.dataclass(frozen=True)
class Condition:
    """One corruption at one severity; as text `fog-3`.

    It is called as a transform of evaluation images: with pixels uint8 (height, width, 3) and their image id.
    """

    corruption: str
    severity: int

    def __post_init__(self) -> None:
        choose(self.corruption, sets()["all"], "corruption")
        choose(str(self.severity), map(str, SEVERITIES), "severity")

    def __str__(self) -> str:
        return f"{self.corruption}-{self.severity}"

    def __call__(self, pixels: np.ndarray, image_id: int) -> np.ndarray:
        return corrupt(pixels, self.corruption, self.severity, image_id)

    def views(self, dataset: ReferDataset, refs: list[Ref], pixels: np.ndarray) -> list[tuple[np.ndarray, list[Ref]]]:
        """Return the corrupted picture of one image, uint8 (height, width, 3), with all refs that are asked about in it."""
        return [(self(pixels, refs[0].image_id), refs)]

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Return the condition that `text` names, e.g. `fog-3`. Raises UserError for any other text."""
        found = re.fullmatch(r"(.+)-(\d+)", text)
        if not found:
            raise UserError(f"'{text}' is no condition: write corruption and severity, such as fog-3.")
        return cls(found[1], int(found[2]))
