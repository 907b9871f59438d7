"""How figures draw a mask on an image, the same in all of them.

The image is pale grey, so that nothing else has color. A mask is filled and outlined in the color
of whose it is, and the ground truth beside it is a dashed outline. So a panel can be read without
color, too.
"""

import numpy as np
from matplotlib.axes import Axes

from benchmark.evaluation.tint import tinted
from reports.figures import COLORS

TRUTH = COLORS[2]
REFERENCE = COLORS[1]
OTHERS = (COLORS[0], *COLORS[2:])  # as curves and bars have them
NOTE = "Filled: the predicted mask. Dashed: the outline of the ground truth."


def draw(
    axes: Axes, pixels: np.ndarray, mask: np.ndarray, color: str, truth: np.ndarray | None = None
) -> None:
    """Draw a mask on its image, without ticks or frame.

    Args:
        axes: where to draw.
        pixels: the image, RGB, uint8 (height, width, 3).
        mask: bool (height, width).
        color: of the mask.
        truth: the true mask, bool (height, width), where the mask is a predicted one.
    """
    axes.imshow(tinted(pixels, mask, color))
    _outline(axes, mask, color, 1.2, "-")
    if truth is not None:
        # White below black can be seen on every ground.
        _outline(axes, truth, "white", 1.6, "-")
        _outline(axes, truth, "black", 0.8, (0, (2.5, 1.5)))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def said(iou: float, mask: np.ndarray) -> str:
    """Return what stands beside a predicted mask.

    Args:
        iou: a fraction.
        mask: bool (height, width).
    """
    return f"IoU {100 * iou:.1f} %" + ("" if mask.any() else ", nothing marked")


def _outline(axes: Axes, mask: np.ndarray, color: str, width: float, style: object) -> None:
    """Draw the outline of a mask, which an empty one does not have."""
    if not mask.any():
        return
    height, across = mask.shape
    # The frame of zeros closes the outline of a mask that touches the edge of the image.
    axes.contour(
        np.arange(-1, across + 1),
        np.arange(-1, height + 1),
        np.pad(mask, 1).astype(float),
        [0.5],
        colors=[color],
        linewidths=width,
        linestyles=[style],
    )
    axes.set(xlim=(-0.5, across - 0.5), ylim=(height - 0.5, -0.5))
