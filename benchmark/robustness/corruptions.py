"""Image corruptions at severities 1 to 5, which depend on the image and its id alone.

The suite ships the 19 corruptions of Hendrycks and Dietterich (2019) in their four families, as
`imagecorruptions` applies them to images of any size. They act on the image at its original size,
before any preprocessing. `corruptions.yaml` says which of them a named set holds, and why. A
further corruption is one entry here or in a plugin, and belongs to the set `all`.
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
from benchmark.base.names import check_name
from benchmark.base.registry import Registry
from benchmark.base.rng import generator
from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32  # least side of an image in pixels that the library takes
LIBRARIES = (
    "imagecorruptions-imaug",
    "numba",
    "numpy",
    "opencv-python",
    "pillow",
    "scikit-image",
    "scipy",
)
# These two draw from generators of their own. The others draw from numpy's global one.
TAKES_SEED = ("impulse_noise", "glass_blur")


class TooSmall(UserError):
    """A corruption cannot take an image, which has too few pixels.

    Attributes:
        image_id: COCO's.
    """

    def __init__(self, message: str, image_id: int) -> None:
        super().__init__(message, image_id)
        self.image_id = image_id

    def __str__(self) -> str:
        return self.args[0]


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One way of corrupting an image.

    Attributes:
        name: what conditions and tables call it.
        family: the family whose mean it enters.
        apply: returns the corrupted image for an image, uint8 (height, width, 3), a severity and a
            seed. The result has the same shape and type. It may draw from numpy's global generator,
            which is seeded for it and restored afterwards.
        smallest: least height and width in pixels that it takes.
    """

    name: str
    family: str
    apply: Callable[[np.ndarray, int, int], np.ndarray]
    smallest: int = 1

    def __post_init__(self) -> None:
        check_name(self.name, "a corruption")


def _of_library(name: str, family: str) -> Corruption:
    def apply(image: np.ndarray, severity: int, seed: int) -> np.ndarray:
        # Imported here because it needs scikit-image and numba, which take a second.
        import imagecorruptions

        own = {"seed": seed} if name in TAKES_SEED else {}
        try:
            with np.errstate(invalid="raise" if name == "spatter" else "warn"):
                return imagecorruptions.corrupt(image, severity, name, **own)
        except FloatingPointError:
            # `spatter` divides by its strongest drop. A very small image may get none, and then
            # there is nothing to see.
            return image.copy()

    return Corruption(name, family, apply, SMALLEST)


# Hendrycks and Dietterich held out the last one of each family for validation.
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
    """Return library -> version for the libraries that decide the bits of a corrupted image."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def families() -> dict[str, tuple[str, ...]]:
    """Return family -> its corruptions, shipped ones first, in the order of their definition."""
    shipped = [corruption.name for corruption in _SHIPPED]
    names = [*shipped, *(name for name in CORRUPTIONS.names() if name not in shipped)]
    members: dict[str, tuple[str, ...]] = {}
    for name in names:
        family = CORRUPTIONS.get(name).family
        members[family] = (*members.get(family, ()), name)
    return members


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
        UserError: a name is neither. The message lists the nearest names.
    """
    known = sets()
    resolved: dict[str, None] = {}
    for name in names:
        choose(name, (*known, *known["all"]), "corruption")
        resolved |= dict.fromkeys(known.get(name, (name,)))
    return tuple(resolved)


def corrupt(image: np.ndarray, corruption: str, severity: int, image_id: int) -> np.ndarray:
    """Return a corrupted copy of an RGB image, both uint8 (height, width, 3).

    Every random number is keyed by the image id, the corruption and the severity. So the same call
    gives the same bits in any process and order. With another build of Pillow, `jpeg_compression`
    and `pixelate` may differ. numpy's global generator is left as it was.

    Args:
        image: at its original size.
        corruption: name of the corruption.
        severity: in 1..5.
        image_id: COCO's.

    Raises:
        UserError: a name or severity is not known.
        TooSmall: the image is smaller than the corruption takes.
    """
    entry = CORRUPTIONS.get(corruption)
    choose(str(severity), map(str, SEVERITIES), "severity")
    height, width = image.shape[:2]
    if min(height, width) < entry.smallest:
        raise TooSmall(
            f"image {image_id} is {width} x {height} pixels and {corruption} needs"
            f" {entry.smallest} x {entry.smallest} or more",
            image_id,
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
    """One corruption at one severity. Its text is like `fog-3`.

    It can be called as a transform of evaluation images, with pixels, uint8 (height, width, 3), and
    their image id.
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
        """Return one picture, the corrupted image, uint8 (height, width, 3), with all its refs."""
        return [(self(pixels, refs[0].image_id), refs)]

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Return the condition that `text` names, e.g. `fog-3`.

        Raises:
            UserError: the text names none.
        """
        match = re.fullmatch(r"(.+)-(\d+)", text)
        if not match:
            raise UserError(
                f"'{text}' is no condition: write corruption and severity, such as fog-3."
            )
        return cls(match[1], int(match[2]))
