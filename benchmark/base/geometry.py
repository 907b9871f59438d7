"""How an image becomes a network's square input, and how a prediction finds its way back to the original size."""

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
        height, width: original size in pixels.
        size: side of the square input in pixels.
        kind: `square` resizes without keeping the aspect ratio (LAVT); `letterbox` keeps it and pads (CRIS).
    """

    height: int
    width: int
    size: int
    kind: Literal["square", "letterbox"]

    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """Return CRIS' affine matrices original -> input and input -> original, float64 (2, 3).

        They act on pixel *indices* (no half-pixel centre), as published: x' = s * x + b, so this is not resize-and-pad.
        """
        scale = min(self.size / self.height, self.size / self.width)
        left, top = (self.size - scale * self.width) / 2, (self.size - scale * self.height) / 2
        source = np.array([[0, 0], [self.width, 0], [0, self.height]], np.float32)
        target = np.array(
            [[left, top], [scale * self.width + left, top], [left, scale * self.height + top]],
            np.float32,
        )
        return cv2.getAffineTransform(source, target), cv2.getAffineTransform(target, source)


def prepare_image(
    image: np.ndarray, geometry: Geometry, mean: tuple[float, float, float]
) -> np.ndarray:
    """Return the network input before normalisation, uint8 (size, size, 3), of an RGB image uint8 (height, width, 3).

    `square`: PIL bilinear (antialiased). `letterbox`: OpenCV bicubic warp, padded with `mean` * 255.
    """
    size = (geometry.size, geometry.size)
    if geometry.kind == "square":
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    border = [255 * value for value in mean]
    return cv2.warpAffine(
        image, geometry.matrices()[0], size, flags=cv2.INTER_CUBIC, borderValue=border
    )


def prepare_mask(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the training target, uint8 (size, size) in 0..255, of a binary mask uint8 (height, width).

    `square`: nearest, so 0 or 255. `letterbox`: bilinear, so soft at edges (CRIS never binarises it again).
    """
    size = (geometry.size, geometry.size)
    if geometry.kind == "square":
        return np.asarray(Image.fromarray(mask * 255).resize(size, Image.Resampling.NEAREST))
    return cv2.warpAffine(
        mask * 255, geometry.matrices()[0], size, flags=cv2.INTER_LINEAR, borderValue=0
    )


def resize(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Return one map (h, w) resized bilinearly to `size` (height, width)."""
    return F.interpolate(
        logits[None, None].float(), size, mode="bilinear", align_corners=align_corners
    )[0, 0]


def restore(logits: Tensor, geometry: Geometry) -> np.ndarray:
    """Return a logit map at input size (size, size) as float32 (height, width): the inverse of the image's way in, bilinear."""
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
    """Return uint8 (B, S, S, 3) images as normalised float32 (B, 3, S, S)."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    return (scaled - torch.tensor(mean, device=images.device).view(shape)) / torch.tensor(
        std, device=images.device
    ).view(shape)
