"""MaskRIS' masks: the image patches and word pieces that the masked pass of a step does not see (arXiv 2411.19067)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from benchmark.base.errors import UserError, choose

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.data.tokenizers import Tokenizer

SAMPLINGS = ("patch", "grid", "block", "cutout")

SMALLEST_BLOCK = 16
"""Patches of BEiT's smallest block."""
FLATTEST_BLOCK = 0.3
"""BEiT's aspect ratios lie between this and its inverse."""


def check_image_mask(size: int, patch_size: int, ratio: float, sampling: str) -> None:
    """Check that an image of side `size` can be masked so; called when a spec is read and again by each draw.

    Raises:
        UserError: the sampling is not known, the ratio lies outside [0, 1], the patch size does not divide the size, or
            `grid` cannot mask this ratio at this size.
    """
    choose(sampling, SAMPLINGS, "image mask sampling")
    if not 0 <= ratio <= 1:
        raise UserError(f"image mask ratio {ratio} must lie between 0 and 1.")
    if patch_size < 1 or size % patch_size:
        raise UserError(
            f"mask patch size {patch_size} does not divide the image size {size}: choose one of "
            f"{_listed(_divisors(size))}."
        )
    if sampling == "grid" and not _grid_fits(size // patch_size, ratio):
        fitting = [patch for patch in _divisors(size) if _grid_fits(size // patch, ratio)]
        if not fitting:
            raise UserError(
                f"grid sampling keeps one patch of every 2x2, 3x3 ..., which cannot give image mask ratio {ratio} at "
                f"image size {size}: choose 0.75 with an even number of patches a side, or another sampling."
            )
        raise UserError(
            f"grid sampling at image mask ratio {ratio} keeps one patch of every {_spacing(ratio)}x{_spacing(ratio)}, "
            f"for which patch size {patch_size} does not fit image size {size}: choose one of {_listed(fitting)}."
        )


def draw_image_mask(
    generator: np.random.Generator,
    size: int,
    patch_size: int,
    ratio: float,
    sampling: str = "patch",
) -> np.ndarray:
    """Return one sample's mask, bool (g, g) with g = size / patch_size, True where a patch is masked.

    All samplings mask the same number of patches, L - int(L * (1 - ratio)) with L = g * g, so that they compare:

    - `patch`: drawn uniformly without replacement (MaskRIS' own; MAE's random sampling).
    - `grid`: one patch of every k x k is kept, k = 1 / sqrt(1 - ratio), so 2 at 0.75 (MAE, arXiv 2111.06377, Sec. 4.1).
      Which of the k * k is drawn per sample, so that no pixel is always hidden; MAE leaves that open.
    - `block`: rectangles of at least 16 patches (or what is left to mask) and an aspect ratio between 0.3 and 1 / 0.3
      (log-uniform: wide and tall alike) until the number is reached (BEiT, arXiv 2106.08254, Alg. 1). Sides are cut at
      the grid's side, and the last rectangle is cut row by row, since BEiT's own number is not exact.
    - `cutout`: one square region (Cutout, arXiv 1708.04552), here wholly inside the image, so that the number is exact:
      rows of ceil(sqrt(number)) patches, the last one shorter where they do not come out even.

    Raises:
        UserError: as `check_image_mask`.
    """
    check_image_mask(size, patch_size, ratio, sampling)
    side = size // patch_size
    masked = side**2 - _kept(side, ratio)
    return _DRAWS[sampling](generator, side, masked)


def apply_image_masks(images: Tensor, masked: Tensor) -> Tensor:
    """Return a copy of `images` (B, 3, S, S) with the masked patches set to 0.

    The images are normalised, so 0 is the mean colour (as published). `masked` is bool (B, g, g), one mask per sample,
    on the same device.
    """
    side = masked.shape[-1]
    patch = images.shape[-1] // side
    patches = images.unflatten(3, (side, patch)).unflatten(2, (side, patch))
    return patches.masked_fill(masked[:, None, :, None, :, None], 0).flatten(4, 5).flatten(2, 3)


def check_text_mask(ratio: float, shares: tuple[float, float, float]) -> None:
    """Check what `mask_words` is asked for; called when a spec is read.

    Raises:
        UserError: the ratio or a share lies outside [0, 1], or the shares do not sum to 1.
    """
    if not 0 <= ratio <= 1:
        raise UserError(f"text mask ratio {ratio} must lie between 0 and 1.")
    if (
        len(shares) != 3
        or not all(0 <= share <= 1 for share in shares)
        or not math.isclose(sum(shares), 1)
    ):
        raise UserError(
            f"text mask shares {_listed(shares)} must be three (mask, random word, keep) that sum to 1."
        )


def mask_words(
    generator: np.random.Generator,
    ids: np.ndarray,
    tokenizer: Tokenizer,
    ratio: float = 0.15,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> np.ndarray:
    """Return a copy of one sentence's ids, int64 (L,), with some word pieces replaced, as MaskRIS does after BERT.

    Each piece whose id is not special is selected with probability `ratio`, independently, so that a sentence may stay
    whole. `shares` of the selected become the mask id, a random id, or stay. The paper says words and vocabulary; as in
    its code, word *pieces* are selected, and a random id is any of `tokenizer.random_ids` (BERT: special and unused
    ones too; CLIP: all but start and end).
    The attention mask is not an argument: it stays that of the original sentence.

    Raises:
        UserError: as `check_text_mask`.
    """
    check_text_mask(ratio, shares)
    selection, fate = generator.random((2, len(ids)))
    words = generator.integers(tokenizer.random_ids.start, tokenizer.random_ids.stop, len(ids))
    selected = (selection < ratio) & ~np.isin(ids, list(tokenizer.special_ids))
    to_mask, to_random, _ = shares
    replacement = np.where(
        fate < to_mask, tokenizer.mask_id, np.where(fate < to_mask + to_random, words, ids)
    )
    return np.where(selected, replacement, ids)


def _patch(generator: np.random.Generator, side: int, masked: int) -> np.ndarray:
    mask = np.zeros(side**2, dtype=bool)
    mask[generator.permutation(side**2)[:masked]] = True
    return mask.reshape(side, side)


def _grid(generator: np.random.Generator, side: int, masked: int) -> np.ndarray:
    spacing = math.isqrt(side**2 // (side**2 - masked))
    top, left = generator.integers(spacing, size=2)
    mask = np.ones((side, side), dtype=bool)
    mask[top::spacing, left::spacing] = False
    return mask


def _block(generator: np.random.Generator, side: int, masked: int) -> np.ndarray:
    mask = np.zeros((side, side), dtype=bool)
    while left_over := masked - int(mask.sum()):
        area = generator.uniform(min(SMALLEST_BLOCK, left_over), left_over)
        aspect = math.exp(generator.uniform(math.log(FLATTEST_BLOCK), -math.log(FLATTEST_BLOCK)))
        height = min(side, max(1, round(math.sqrt(area * aspect))))
        width = min(side, max(1, round(math.sqrt(area / aspect))))
        top, left = generator.integers(side - height + 1), generator.integers(side - width + 1)
        block = np.zeros_like(mask)
        block[top : top + height, left : left + width] = True
        mask.flat[np.flatnonzero(block & ~mask)[:left_over]] = True
    return mask


def _cutout(generator: np.random.Generator, side: int, masked: int) -> np.ndarray:
    mask = np.zeros((side, side), dtype=bool)
    if masked == 0:
        return mask
    width = math.isqrt(masked - 1) + 1
    height = -(-masked // width)
    region = (np.arange(height * width) < masked).reshape(height, width)
    top, left = generator.integers(side - height + 1), generator.integers(side - width + 1)
    mask[top : top + height, left : left + width] = region
    return mask


_DRAWS = {"patch": _patch, "grid": _grid, "block": _block, "cutout": _cutout}


def _kept(side: int, ratio: float) -> int:
    """Return how many of side * side patches are kept: truncated, in floating point, as published (480: 56 of 225)."""
    return int(side**2 * (1 - ratio))


def _spacing(ratio: float) -> int:
    return round(1 / math.sqrt(1 - ratio)) if ratio < 1 else 0


def _grid_fits(side: int, ratio: float) -> bool:
    """Return whether one patch of every k x k is the share to keep, and as many as the other samplings keep."""
    spacing = _spacing(ratio)
    if spacing == 0 or side % spacing or not math.isclose(ratio, 1 - 1 / spacing**2, abs_tol=1e-9):
        return False
    return (side // spacing) ** 2 == _kept(side, ratio)


def _divisors(size: int) -> list[int]:
    return [number for number in range(1, size + 1) if size % number == 0]


def _listed(values: list[int] | tuple[float, ...]) -> str:
    return ", ".join(map(str, values))
