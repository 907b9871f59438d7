"""Image corruptions at severities 1 to 5: a function of the image, its id and the condition alone.

Shipped are the 19 of Hendrycks and Dietterich (2019), as `imagecorruptions` applies them to images of any size, in their four
families. They act on the image at its original size, before any preprocessing. Which of them a named set holds, and why, is in
`corruptions.yaml`. A further corruption is one entry here, or in a plugin, and belongs to the set `all`.
"""

import dataclasses
import functools
import importlib.metadata
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import yaml

from benchmark.base.errors import UserError, choose
from benchmark.base.registry import Registry
from benchmark.base.rng import generator
from benchmark.data.refer import Ref, ReferDataset

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32  # pixels: what the library takes
LIBRARIES = (
    "imagecorruptions-imaug",
    "numba",
    "numpy",
    "opencv-python",
    "pillow",
    "scikit-image",
    "scipy",
)
TAKES_SEED = (
    "impulse_noise",
    "glass_blur",
)  # draw from generators of their own, the others from numpy's global one


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One way of corrupting an image.

    Attributes:
        name, family: what conditions and tables call it, and the family whose mean it enters.
        apply: image uint8 (height, width, 3), severity, seed -> the corrupted image, of the same shape and type. It may draw
            from numpy's global generator, which is seeded for it and restored afterwards.
        smallest: least height and width in pixels that it takes.
    """

    name: str
    family: str
    apply: Callable[[np.ndarray, int, int], np.ndarray]
    smallest: int = 1


def _of_library(name: str, family: str) -> Corruption:
    def apply(image: np.ndarray, severity: int, seed: int) -> np.ndarray:
        import imagecorruptions  # scikit-image and numba: a second that other commands need not wait

        own = {"seed": seed} if name in TAKES_SEED else {}
        try:
            with np.errstate(invalid="raise" if name == "spatter" else "warn"):
                return imagecorruptions.corrupt(image, severity, name, **own)
        except FloatingPointError:
            # `spatter` divides by its strongest drop. On a very small image there may be none, and nothing to see then.
            return image.copy()

    return Corruption(name, family, apply, SMALLEST)


# The last one or two of each family are those that were held out for validation.
_SHIPPED = (
    _of_library("gaussian_noise", "noise"),
    _of_library("shot_noise", "noise"),
    _of_library("impulse_noise", "noise"),
    _of_library("speckle_noise", "noise"),
    _of_library("defocus_blur", "blur"),
    _of_library("glass_blur", "blur"),
    _of_library("motion_blur", "blur"),
    _of_library("zoom_blur", "blur"),
    _of_library("gaussian_blur", "blur"),
    _of_library("snow", "weather"),
    _of_library("frost", "weather"),
    _of_library("fog", "weather"),
    _of_library("brightness", "weather"),
    _of_library("spatter", "weather"),
    _of_library("contrast", "digital"),
    _of_library("elastic_transform", "digital"),
    _of_library("pixelate", "digital"),
    _of_library("jpeg_compression", "digital"),
    _of_library("saturate", "digital"),
)


def _shipped() -> Mapping[str, Callable[[], Corruption]]:
    return {corruption.name: lambda corruption=corruption: corruption for corruption in _SHIPPED}


CORRUPTIONS: Registry[Corruption] = Registry(
    "corruptions", "corruption", _shipped, lambda: Corruption
)


def made_with() -> dict[str, str]:
    """Return library -> version of what decides the bits of a changed image."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def families() -> dict[str, tuple[str, ...]]:
    """Return family -> its corruptions, shipped ones first, in the order of their definition."""
    shipped = [corruption.name for corruption in _SHIPPED]
    names = [*shipped, *(name for name in CORRUPTIONS.names() if name not in shipped)]
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        family = CORRUPTIONS.get(name).family
        found[family] = (*found.get(family, ()), name)
    return found


def family_of(corruption: str) -> str:
    """Return the family of a corruption."""
    return CORRUPTIONS.get(corruption).family


@functools.cache
def _named_sets() -> dict[str, tuple[str, ...]]:
    content = yaml.safe_load((Path(__file__).parent / "corruptions.yaml").read_text())
    return {name: tuple(members) for name, members in content["sets"].items()}


def sets() -> dict[str, tuple[str, ...]]:
    """Return the named sets: `common` (15), `maskris` (17) and `all`, the common ones first."""
    named = _named_sets()
    others = [
        name for members in families().values() for name in members if name not in named["common"]
    ]
    return {**named, "all": (*named["common"], *others)}


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

    Every random number is keyed by (image_id, corruption, severity): the same call gives the same bits in any process and
    order, and numpy's global generator is left as it was. With another build of Pillow `jpeg_compression` and `pixelate` may
    differ.

    Raises:
        UserError: a name or severity is not known, or the image is smaller than the corruption takes.
    """
    entry = CORRUPTIONS.get(corruption)
    choose(str(severity), map(str, SEVERITIES), "severity")
    height, width = image.shape[:2]
    if min(height, width) < entry.smallest:
        raise UserError(
            f"image {image_id} is {width} x {height} pixels and {corruption} needs {entry.smallest} x {entry.smallest} or"
            " more: use the original images, or take it out of the data set."
        )
    seed = int(generator("corruption", image_id, corruption, severity).integers(2**31))
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        return entry.apply(image, severity, seed)
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
        choose(self.corruption, CORRUPTIONS.names(), "corruption")
        choose(str(self.severity), map(str, SEVERITIES), "severity")

    def __str__(self) -> str:
        return f"{self.corruption}-{self.severity}"

    def __call__(self, pixels: np.ndarray, image_id: int) -> np.ndarray:
        return corrupt(pixels, self.corruption, self.severity, image_id)

    def views(
        self, dataset: ReferDataset, refs: list[Ref], pixels: np.ndarray
    ) -> list[tuple[np.ndarray, list[Ref]]]:
        """Return the corrupted picture of one image, uint8 (height, width, 3), with all refs that are evaluated on it."""
        return [(self(pixels, refs[0].image_id), refs)]

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Return the condition that `text` names, e.g. `fog-3`. Raises UserError for any other text."""
        found = re.fullmatch(r"(.+)-(\d+)", text)
        if not found:
            raise UserError(
                f"'{text}' is no condition: write corruption and severity, such as fog-3."
            )
        return cls(found[1], int(found[2]))
