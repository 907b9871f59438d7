"""How masks are colored in pictures."""

import matplotlib.colors
import numpy as np

TRUTH = "#1f9e54"
PREDICTION = "#d6336c"


def tinted(image: np.ndarray, mask: np.ndarray, color: str) -> np.ndarray:
    """Return an image with its mask in `color`. All else is grey and dimmed.

    So each color in the picture has one meaning.

    Args:
        image: RGB, uint8 (height, width, 3).
        mask: bool, or uint8 in {0, 1}, (height, width).
        color: as matplotlib names colors.

    Returns:
        RGB, uint8 (height, width, 3).
    """
    tint = 255 * np.array(matplotlib.colors.to_rgb(color))
    grey = image.mean(-1, keepdims=True).repeat(3, -1)
    marked = 0.35 * grey + 0.65 * tint
    other = 0.6 * grey + 0.4 * 255
    return np.where(mask.astype(bool)[..., None], marked, other).astype(np.uint8)
