"""How an image becomes a network's square input, and how a prediction gets its original size."""

import dataclasses
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Geometry:
    """One image's way into the network input and back.

    Attributes:
        height: original height in pixels.
        width: original width in pixels.
        size: side of the square input in pixels.
        kind: `square` resizes without keeping the aspect ratio (LAVT). `letterbox` keeps it and
            pads the rest (CRIS).
    """

    height: int
    width: int
    size: int
    kind: Literal["square", "letterbox"]

    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """Return CRIS' affine matrices, each float64 (2, 3).

        The matrices act on pixel *indices* as published: x' = s * x + b, without a half-pixel
        centre. So they do not compute what a resize followed by padding computes.

        Returns:
            The matrix from the original image to the input, and the one back.
        """
        scale = min(self.size / self.height, self.size / self.width)
        left = (self.size - scale * self.width) / 2
        top = (self.size - scale * self.height) / 2
        source = np.array([[0, 0], [self.width, 0], [0, self.height]], np.float32)
        target = np.array(
            [[left, top], [scale * self.width + left, top], [left, scale * self.height + top]],
            np.float32,
        )
        return cv2.getAffineTransform(source, target), cv2.getAffineTransform(target, source)


def prepare_image(
    image: np.ndarray, geometry: Geometry, mean: tuple[float, float, float]
) -> np.ndarray:
    """Return the network input of an image before it is normalised.

    For `square`, Pillow resizes bilinearly with antialiasing. For `letterbox`, OpenCV warps
    bicubically.

    Args:
        image: RGB, uint8 (height, width, 3).
        geometry: the image's way into the network.
        mean: colour in [0, 1] that fills the border of a letterbox.

    Returns:
        RGB, uint8 (size, size, 3).
    """
    size = (geometry.size, geometry.size)
    if geometry.kind == "square":
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    border = [255 * value for value in mean]
    return cv2.warpAffine(
        image, geometry.matrices()[0], size, flags=cv2.INTER_CUBIC, borderValue=border
    )


def prepare_mask(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the training target of a mask.

    For `square` the nearest pixel counts, so each value is 0 or 255. For `letterbox` the warp is
    bilinear, so the target is soft at edges. CRIS never binarises it again.

    Args:
        mask: uint8 (height, width) in {0, 1}.
        geometry: the way into the network of the mask's image.

    Returns:
        uint8 (size, size) in 0..255.
    """
    size = (geometry.size, geometry.size)
    if geometry.kind == "square":
        return np.asarray(Image.fromarray(mask * 255).resize(size, Image.Resampling.NEAREST))
    return cv2.warpAffine(
        mask * 255, geometry.matrices()[0], size, flags=cv2.INTER_LINEAR, borderValue=0
    )


def resize(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Return one map (h, w) as float32, resized bilinearly to `size` (height, width)."""
    return F.interpolate(
        logits[None, None].float(), size, mode="bilinear", align_corners=align_corners
    )[0, 0]


def restore(logits: Tensor, geometry: Geometry) -> np.ndarray:
    """Return a logit map (size, size) at the image's original size, float32 (height, width).

    This inverts the image's way into the network, with bilinear interpolation.
    """
    if geometry.kind == "square":
        return resize(logits, (geometry.height, geometry.width), align_corners=False).cpu().numpy()
    inverse = geometry.matrices()[1]
    return cv2.warpAffine(
        logits.float().cpu().numpy(),
        inverse,
        (geometry.width, geometry.height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def normalize(
    images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Return images, uint8 (B, S, S, 3), as normalised float32 (B, 3, S, S).

    Args:
        images: RGB.
        mean: of each channel, in [0, 1].
        std: of each channel, in [0, 1].
    """
    width = images.shape[2]
    # Channels are the last axis, and a loop over three numbers is slow. A row has many. A constant
    # that is made on a GPU at once would wait for all that the GPU has to do.
    means, stds = (
        torch.tensor(values).repeat(width).to(images.device, non_blocking=True)
        for values in (mean, std)
    )
    rows = images.flatten(2).float().div_(255).sub_(means).div_(stds)
    return rows.unflatten(2, (width, 3)).permute(0, 3, 1, 2)
