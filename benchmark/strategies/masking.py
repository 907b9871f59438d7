"""MaskRIS' masks (arXiv 2411.19067).

They hide image patches and word pieces from the masked pass of a step.
"""

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
"""Number of patches in BEiT's smallest block."""
FLATTEST_BLOCK = 0.3
"""BEiT's aspect ratios lie between this number and its inverse."""


def check_image_mask(size: int, patch_size: int, ratio: float, sampling: str) -> None:
    """Check that an image can be masked with these settings.

    It is called when a spec is read, and again for each mask.

    Args:
        size: side of the image in pixels.
        patch_size: side of a patch in pixels.
        ratio: share of the patches that are masked, in [0, 1].
        sampling: one of SAMPLINGS.

    Raises:
        UserError: the sampling is not known, the ratio lies outside [0, 1], the patch size does not
            divide the size, or `grid` cannot mask this ratio at this size.
    """
    choose(sampling, SAMPLINGS, "image mask sampling")
    if not 0 <= ratio <= 1:
        raise UserError(f"image mask ratio {ratio} must lie between 0 and 1.")
    if patch_size < 1 or size % patch_size:
        raise UserError(
            f"mask patch size {patch_size} does not divide the image size {size}: choose one of"
            f" {_listed(_divisors(size))}."
        )
    if sampling == "grid" and not _grid_fits(size // patch_size, ratio):
        fitting = [patch for patch in _divisors(size) if _grid_fits(size // patch, ratio)]
        if not fitting:
            raise UserError(
                "grid sampling keeps one patch of every 2x2, 3x3 ..., which cannot give image mask"
                f" ratio {ratio} at image size {size}: choose 0.75 with an even number of patches a"
                " side, or another sampling."
            )
        spacing = _spacing(ratio)
        raise UserError(
            f"grid sampling at image mask ratio {ratio} keeps one patch of every"
            f" {spacing}x{spacing}, for which patch size {patch_size} does not fit image size"
            f" {size}: choose one of {_listed(fitting)}."
        )


def draw_image_mask(
    rng: np.random.Generator,
    size: int,
    patch_size: int,
    ratio: float,
    sampling: str = "patch",
) -> np.ndarray:
    """Return one sample's mask.

    All samplings mask the same number of patches, L - int(L * (1 - ratio)) with L = g * g, so that
    they can be compared:

    - `patch` draws patches uniformly without replacement. This is MaskRIS' own sampling and that of
      MAE.
    - `grid` keeps one patch of every k x k with k = 1 / sqrt(1 - ratio), which is 2 at 0.75 (MAE,
      arXiv 2111.06377, Sec. 4.1). Which of the k * k it keeps is drawn per sample, so that no pixel
      is always hidden. MAE leaves that open.
    - `block` masks rectangles until the number is reached (BEiT, arXiv 2106.08254, Alg. 1). Each
      has at least 16 patches, or what is left to mask. Its aspect ratio is log-uniform between 0.3
      and 1 / 0.3, so wide and tall ones are equally likely. Its sides are cut at the grid's side,
      and the last rectangle is cut row by row, because BEiT's own number is not exact.
    - `cutout` masks one square region (Cutout, arXiv 1708.04552). It lies wholly inside the image,
      so that the number is exact. Its rows have ceil(sqrt(number)) patches, and the last one is
      shorter if they do not come out even.

    Args:
        rng: decides what is masked.
        size: side of the image in pixels.
        patch_size: side of a patch in pixels, which divides `size`.
        ratio: share of the patches that are masked, in [0, 1].
        sampling: one of SAMPLINGS.

    Returns:
        bool (g, g) with g = size / patch_size, True where a patch is masked.

    Raises:
        UserError: as `check_image_mask`.
    """
    check_image_mask(size, patch_size, ratio, sampling)
    side = size // patch_size
    masked = side**2 - _kept(side, ratio)
    return _SAMPLERS[sampling](rng, side, masked)


def apply_image_masks(images: Tensor, masked: Tensor) -> Tensor:
    """Return a copy of `images` with the masked patches set to 0.

    The images are normalised, so 0 is the mean colour, as published.

    Args:
        images: float (B, 3, S, S).
        masked: bool (B, g, g), one mask per sample, on the same device.
    """
    side = masked.shape[-1]
    patch = images.shape[-1] // side
    patches = images.unflatten(3, (side, patch)).unflatten(2, (side, patch))
    return patches.masked_fill(masked[:, None, :, None, :, None], 0).flatten(4, 5).flatten(2, 3)


def check_text_mask(ratio: float, shares: tuple[float, float, float]) -> None:
    """Check the settings of `mask_words`. It is called when a spec is read, too.

    Args:
        ratio: probability that a word piece is selected, in [0, 1].
        shares: of the selected pieces, those that become the mask, become a random piece, and stay.

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
            f"text mask shares {_listed(shares)} must be three (mask, random word, keep) that sum"
            " to 1."
        )


def mask_words(
    rng: np.random.Generator,
    ids: np.ndarray,
    tokenizer: Tokenizer,
    ratio: float = 0.15,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> np.ndarray:
    """Return a copy of one sentence's ids with some word pieces replaced, as in MaskRIS.

    The rule is BERT's. The paper speaks of words and the vocabulary. As in its code, word *pieces*
    are selected, and a random id is any of `tokenizer.random_ids`. The attention mask is no
    argument, because it stays that of the original sentence.

    Args:
        rng: decides what is replaced.
        ids: int64 (L,).
        tokenizer: that made the ids.
        ratio: probability that a piece whose id is not special is selected. Pieces are selected
            independently, so a sentence may stay whole.
        shares: of the selected pieces, those that become the mask id, become a random id, and stay.

    Returns:
        int64 (L,).

    Raises:
        UserError: as `check_text_mask`.
    """
    check_text_mask(ratio, shares)
    selection, fate = rng.random((2, len(ids)))
    words = rng.integers(tokenizer.random_ids.start, tokenizer.random_ids.stop, len(ids))
    selected = (selection < ratio) & ~np.isin(ids, list(tokenizer.special_ids))
    to_mask, to_random, _ = shares
    replacement = np.where(
        fate < to_mask, tokenizer.mask_id, np.where(fate < to_mask + to_random, words, ids)
    )
    return np.where(selected, replacement, ids)


def _patch(rng: np.random.Generator, side: int, masked: int) -> np.ndarray:
    mask = np.zeros(side**2, dtype=bool)
    mask[rng.permutation(side**2)[:masked]] = True
    return mask.reshape(side, side)


def _grid(rng: np.random.Generator, side: int, masked: int) -> np.ndarray:
    spacing = math.isqrt(side**2 // (side**2 - masked))
    top, left = rng.integers(spacing, size=2)
    mask = np.ones((side, side), dtype=bool)
    mask[top::spacing, left::spacing] = False
    return mask


def _block(rng: np.random.Generator, side: int, masked: int) -> np.ndarray:
    mask = np.zeros((side, side), dtype=bool)
    while remaining := masked - int(mask.sum()):
        area = rng.uniform(min(SMALLEST_BLOCK, remaining), remaining)
        aspect = math.exp(rng.uniform(math.log(FLATTEST_BLOCK), -math.log(FLATTEST_BLOCK)))
        height = min(side, max(1, round(math.sqrt(area * aspect))))
        width = min(side, max(1, round(math.sqrt(area / aspect))))
        top = rng.integers(side - height + 1)
        left = rng.integers(side - width + 1)
        block = np.zeros_like(mask)
        block[top : top + height, left : left + width] = True
        mask.flat[np.flatnonzero(block & ~mask)[:remaining]] = True
    return mask


def _cutout(rng: np.random.Generator, side: int, masked: int) -> np.ndarray:
    mask = np.zeros((side, side), dtype=bool)
    if masked == 0:
        return mask
    width = math.isqrt(masked - 1) + 1
    height = -(-masked // width)
    region = (np.arange(height * width) < masked).reshape(height, width)
    top = rng.integers(side - height + 1)
    left = rng.integers(side - width + 1)
    mask[top : top + height, left : left + width] = region
    return mask


_SAMPLERS = {"patch": _patch, "grid": _grid, "block": _block, "cutout": _cutout}


def _kept(side: int, ratio: float) -> int:
    """Return how many of side * side patches are kept."""
    # It is truncated in floating point as published, so an image of 480 pixels keeps 56 of 225.
    return int(side**2 * (1 - ratio))


def _spacing(ratio: float) -> int:
    return round(1 / math.sqrt(1 - ratio)) if ratio < 1 else 0


def _grid_fits(side: int, ratio: float) -> bool:
    """Return whether keeping one patch of every k x k keeps as many as the other samplings do."""
    spacing = _spacing(ratio)
    if spacing == 0 or side % spacing or not math.isclose(ratio, 1 - 1 / spacing**2, abs_tol=1e-9):
        return False
    return (side // spacing) ** 2 == _kept(side, ratio)


def _divisors(size: int) -> list[int]:
    return [number for number in range(1, size + 1) if size % number == 0]


def _listed(values: list[int] | tuple[float, ...]) -> str:
    return ", ".join(map(str, values))
