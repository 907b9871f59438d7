"""Decodes photographs, of whatever kind of file, into the same kind of array."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from benchmark.base.files import open_regular

# What Pillow raises on a file that is no picture, is damaged (SyntaxError for a broken PNG,
# ValueError for a header that cannot be), or is far too large.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
ORIENTATION = 0x0112  # the EXIF tag
SIDEWAYS = (5, 6, 7, 8)  # its values that exchange height and width
DEPTHS = 257  # values of 16 bits for each of 8, so that white stays white


class Stored(NamedTuple):
    """How a file stores a picture.

    Attributes:
        height: of its pixels.
        width: of its pixels.
        is_sideways: whether EXIF says that height and width are to be exchanged.
    """

    height: int
    width: int
    is_sideways: bool

    @classmethod
    def of(cls, file: Image.Image) -> "Stored":
        """Return this of an opened file, of which the header alone is read."""
        return cls(file.height, file.width, file.getexif().get(ORIENTATION, 1) in SIDEWAYS)

    def fits_turned(self, annotated: tuple[int, int]) -> bool:
        """Return whether the picture must be turned to have the annotated height and width."""
        turned = (self.width, self.height)
        return self.is_sideways and turned == annotated and turned != (self.height, self.width)

    def shown_as(self, annotated: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the picture as `decode` gives it."""
        return annotated if self.fits_turned(annotated) else (self.height, self.width)


def stored(path: Path, whole: bool) -> Stored | None:
    """Return how a file stores its picture, or None if it cannot be decoded.

    Args:
        path: the file.
        whole: decode all of it, and not the header alone.
    """
    try:
        with open_regular(path) as content, Image.open(content) as file:
            if whole:
                file.load()
            return Stored.of(file)
    except DECODING_ERRORS:
        return None


def decode(path: Path, annotated: tuple[int, int] | None = None) -> np.ndarray:
    """Return a picture as RGB, uint8 (height, width, 3).

    Grey values of 16 bits are scaled to 8. A picture that its camera held sideways is turned as its
    EXIF orientation says.

    Args:
        path: the file.
        annotated: height and width where an annotation says them. The pixels stay as they are
            stored then, unless they must be turned to have that size.

    Raises:
        DECODING_ERRORS: it is no picture, is damaged, or is far too large.
    """
    with open_regular(path) as content, Image.open(content) as file:
        is_turned = annotated is None or Stored.of(file).fits_turned(annotated)
        upright = ImageOps.exif_transpose(file) if is_turned else file
        if upright.mode.startswith("I"):
            deep = np.asarray(upright).astype(np.int64)
            grey = np.clip(np.rint(deep / DEPTHS), 0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        return np.asarray(upright.convert("RGB"))
