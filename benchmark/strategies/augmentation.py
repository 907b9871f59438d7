"""Conventional augmentations: random crop, horizontal flip and color jitter.

The MaskRIS paper compares with them (Fig. 2) and gives no settings, so these are torchvision's
usual ones. Image and mask change alike. All act on the network's square input, so a crop also blurs
a little. The sentence stays as it is, also where a flip makes "left" wrong.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from benchmark.base.rng import generator

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from benchmark.data.samples import RawBatch

CROP_AREA = (0.5, 1.0)
"""Least and greatest share of the input that a crop keeps. It is resized to the whole input."""
CROP_ASPECT = (3 / 4, 4 / 3)
"""Least and greatest width of a crop, divided by its height."""
FLIP_PROBABILITY = 0.5
BRIGHTNESS = CONTRAST = SATURATION = 0.4
"""Factors lie between 1 - x and 1 + x."""
HUE = 0.1
"""Greatest shift of the hue to either side, as a share of the circle."""

Pair = "tuple[Tensor, Tensor | None]"


def augment(raw: RawBatch, names: Sequence[str], seed: int, epoch: int) -> RawBatch:
    """Return `raw` with the named augmentations applied in their order.

    A mask moves with its image, so a crop can cut off some of a referent.

    Args:
        raw: the samples.
        names: of `crop`, `flip` and `jitter`.
        seed: of the run. With the name, the epoch and the sample it keys every random number.
        epoch: counts from 0.

    Raises:
        KeyError: a name is not known. Specs are checked when they are read, so none should come
            here.
    """
    import torch

    images = []
    targets = []
    for number, sample in enumerate(raw.samples):
        image = raw.images[number].permute(2, 0, 1)
        target = None if raw.targets is None else raw.targets[number][None]
        for name in names:
            image, target = _AUGMENTATIONS[name](
                generator(seed, name, epoch, sample), image, target
            )
        images.append(image.permute(1, 2, 0))
        targets.append(target)
    stacked = None if raw.targets is None else torch.cat(targets)
    return dataclasses.replace(raw, images=torch.stack(images).contiguous(), targets=stacked)


def _crop(rng: np.random.Generator, image: Tensor, target: Tensor | None) -> Pair:
    import torchvision.transforms.v2.functional as TF
    from torchvision.transforms.v2 import InterpolationMode

    side = image.shape[-1]
    area = side**2 * rng.uniform(*CROP_AREA)
    aspect = math.exp(rng.uniform(*map(math.log, CROP_ASPECT)))
    height, width = (min(side, round(math.sqrt(area * ratio))) for ratio in (1 / aspect, aspect))
    top, left = (int(rng.integers(side - extent + 1)) for extent in (height, width))
    box = (top, left, height, width)
    size = [side, side]
    image = TF.resized_crop(image, *box, size, InterpolationMode.BILINEAR, antialias=True)
    if target is not None:
        # With the nearest pixel a binary mask stays binary.
        target = TF.resized_crop(target, *box, size, InterpolationMode.NEAREST)
    return image, target


def _flip(rng: np.random.Generator, image: Tensor, target: Tensor | None) -> Pair:
    import torchvision.transforms.v2.functional as TF

    if rng.random() >= FLIP_PROBABILITY:
        return image, target
    return TF.horizontal_flip(image), None if target is None else TF.horizontal_flip(target)


def _jitter(rng: np.random.Generator, image: Tensor, target: Tensor | None) -> Pair:
    import torchvision.transforms.v2.functional as TF

    changes: list[Callable[[Tensor], Tensor]] = [
        lambda image: TF.adjust_brightness(image, rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)),
        lambda image: TF.adjust_contrast(image, rng.uniform(1 - CONTRAST, 1 + CONTRAST)),
        lambda image: TF.adjust_saturation(image, rng.uniform(1 - SATURATION, 1 + SATURATION)),
        lambda image: TF.adjust_hue(image, rng.uniform(-HUE, HUE)),
    ]
    # The order is random as in torchvision's ColorJitter.
    for number in rng.permutation(len(changes)):
        image = changes[number](image)
    return image, target


_AUGMENTATIONS = {"crop": _crop, "flip": _flip, "jitter": _jitter}
