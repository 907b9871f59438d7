"""AMLRIS (ICLR 2026): patches that no word matches are hidden from a second, masked pass.

Relevance is the paper's patch-max matching, and the mask its alignment-aware filtering. The paper
was read through notes and its released code (see `shared/facts/amlris.md`), and where the two
differ this is the code's formula with the paper's rule for blocks:

    s     = softmax over words of V (W T + b)      W and b random, and never trained
    r     = the largest s of a place                the relevance of the place
    weak  = pixels whose upsampled r is below the threshold
    L     = (1 - w) L(x, t) + w L(masked x, t)      the method's own loss, with its targets, twice

W never learns, so relevance is a fixed random function of the content and no measured alignment.
Hence the control `amlris-random`, which hides as many blocks at random places. Whether alignment
matters is decided by comparing the two.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from benchmark.base.rng import generator
from benchmark.strategies.masking import apply_image_masks, check_image_mask
from benchmark.strategies.strategy import (
    Limit,
    MicroBatch,
    Strategy,
    logged,
    require_guides,
    running_statistics,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from methods.config import Config, Definition
    from methods.contract import Aligned


class AMLRIS(Strategy):
    """The method's own loss on samples whose weakly matched patches are hidden.

    Attributes:
        threshold: pixels with a relevance below it are weak. Relevance lies in [1 / L, 1] for L
            word pieces.
        share: of the weak pixels of an image, those that are drawn, in [0, 1]. A block with any
            drawn pixel is hidden, so this share decides little.
        masked_weight: w, in [0, 1]. The released code has 0.5. With 1 the clean pass only gives the
            features and has no gradient, as the paper tells it.
        places: `aligned` hides blocks with drawn weak pixels. `random` hides as many at random
            places of the same image.
        patch_size: side of a block in pixels of the network input.
        batchnorm_in_masked_pass: whether the masked pass updates BatchNorm's running statistics.
    """

    threshold: float = Field(default=0.4, ge=0)
    share: float = Field(default=0.25, ge=0, le=1)
    masked_weight: float = Field(default=0.5, ge=0, le=1)
    places: Literal["aligned", "random"] = "aligned"
    patch_size: int = Field(default=32, ge=1)
    batchnorm_in_masked_pass: bool = True

    def step(self, micro: MicroBatch) -> dict[str, Tensor]:
        """Add the gradients of both passes. Each is followed by its backward."""
        import torch

        weight = self.masked_weight
        with torch.set_grad_enabled(weight < 1):
            output, terms, loss_ce = micro.supervised(micro.batch)
        if weight < 1:
            micro.backward(loss_ce, 1 - weight)

        hidden, weak = self.hidden(micro, micro.method.aligned(output))
        images = apply_image_masks(micro.batch.images, hidden)
        masked = dataclasses.replace(micro.batch, images=images)
        with running_statistics(micro.method, self.batchnorm_in_masked_pass):
            _, _, loss_masked = micro.supervised(masked, "masked pass")
        micro.backward(loss_masked, weight)

        total = (1 - weight) * loss_ce.detach() + weight * loss_masked.detach()
        shares = {"weak_share": weak, "masked_share": hidden.float().mean()}
        return logged(total, terms, loss_ce=loss_ce, loss_masked=loss_masked, **shares)

    def hidden(self, micro: MicroBatch, aligned: Aligned) -> tuple[Tensor, Tensor]:
        """Return the blocks to hide, bool (B, g, g), and the share of weak pixels, a scalar.

        Neither depends on a target or on the other samples of the micro-batch. Nothing waits for
        the device.

        Args:
            micro: the samples.
            aligned: their features.
        """
        import torch

        size, device = micro.method.needs.size, aligned.places.device
        grid = size // self.patch_size
        channels = aligned.places.shape[1], aligned.words.shape[2]
        projection = _projection(micro.seed, *channels, device)
        weak = weak_pixels(relevance(aligned, *projection), size, self.threshold)
        drawn = draw_pixels(self._random(micro, "alignment mask", size, device), weak, self.share)
        blocks = touched_blocks(drawn, grid)
        if self.places == "random":
            count = blocks.flatten(1).sum(1)
            ranks = (
                self._random(micro, "random blocks", grid, device).flatten(1).argsort(1).argsort(1)
            )
            blocks = (ranks < count[:, None]).reshape(blocks.shape)
        return blocks, weak.to(torch.float32).mean()

    def _random(self, micro: MicroBatch, purpose: str, side: int, device: torch.device) -> Tensor:
        """Return one random number for each cell of each sample's grid, float32 (B, side, side)."""
        import torch

        drawn = [
            micro.rng(purpose, sample).random((side, side), dtype=np.float32)
            for sample in micro.samples.samples
        ]
        return torch.from_numpy(np.stack(drawn)).to(device, non_blocking=True)

    # --- settings and words -----------------------------------------------------------------------

    def check(self, definition: Definition, config: Config) -> None:
        """Check that the method has aligned features and that the blocks divide the input.

        Raises:
            UserError: it has none, or they do not.
        """
        require_guides(definition, self.name)
        check_image_mask(config.size, self.patch_size, 0.0, "patch")

    @property
    def heading(self) -> str:
        """What tables call it."""
        return "+AMLRIS" if self.name == "amlris" else f"+{self.name}"

    @property
    def passes(self) -> float:
        """Two passes, or one and a forward, which is a third of one."""
        return 4 / 3 if self.masked_weight == 1 else 2

    def describe(self) -> list[str]:
        """Return its mask, and how the passes are weighed."""
        where = {
            "aligned": f"weak pixels are those of relevance below {self.threshold:g}",
            "random": (
                f"as many blocks as have drawn pixels of relevance below {self.threshold:g}, at"
                " random places"
            ),
        }
        clean = "the clean pass has no gradient" if self.masked_weight == 1 else ""
        updates = "updates" if self.batchnorm_in_masked_pass else "does not update"
        parts = [
            where[self.places],
            f"{self.share:g} of them are drawn, and blocks of {self.patch_size} px with any are"
            " hidden",
            f"weight w = {self.masked_weight:g} of the masked pass",
            clean,
            f"the masked pass {updates} BatchNorm's running statistics",
        ]
        return [part for part in parts if part]

    def limits(self) -> list[Limit]:
        """Return that some of an image must be hidden, and some seen."""
        return [
            Limit(
                name="train/masked_share",
                what="share of blocks that AMLRIS hides",
                low=0.01,
                high=0.9,
                below="the masked pass is nearly the clean one",
                above="the masked pass sees next to nothing",
            )
        ]

    def notes(self, families: set[str]) -> list[str]:
        """Return what AMLRIS' relevance is, and what its published gain was measured against."""
        return [
            "AMLRIS' relevance goes through a random projection that never learns. On trained tiny"
            " networks of this suite it ranked the referent's pixels at chance (AUC 0.40 to 0.64)."
            " amlris against amlris-random decides whether alignment matters.",
            "AMLRIS' paper reports its gains over a CARIS of its own training, +1.08 mIoU on"
            " average. Over CARIS' released checkpoints they are +0.53.",
        ]


def relevance(aligned: Aligned, weight: Tensor, bias: Tensor) -> Tensor:
    """Return how well the best word matches each place, (B, h, w) in [1 / L, 1].

    All L positions count, as in the released code, padding included.

    Args:
        aligned: places (B, C, h, w) and words (B, L, D).
        weight: (C, D), the random projection of words.
        bias: (C,). It adds the same to all words of a place, so the softmax does not see it.
    """
    import torch
    from torch.nn.functional import linear

    # In float32 and outside autocast, because the threshold divides what is nearly the same.
    with torch.autocast(aligned.places.device.type, enabled=False):
        words = linear(aligned.words.to(weight.dtype), weight, bias)
        places = aligned.places.to(weight.dtype)
        scores = places.flatten(2).transpose(1, 2) @ words.transpose(1, 2)
        return scores.softmax(-1).amax(-1).unflatten(1, places.shape[-2:])


def weak_pixels(relevance: Tensor, size: int, threshold: float) -> Tensor:
    """Return the pixels whose relevance is below `threshold`, bool (B, S, S).

    Args:
        relevance: (B, h, w). It is upsampled bilinearly, with align_corners False.
        size: S, the side of the network input in pixels.
        threshold: in [0, 1] to leave some pixels, and above 1 for all.
    """
    from torch.nn.functional import interpolate

    upsampled = interpolate(relevance[:, None], (size, size), mode="bilinear", align_corners=False)
    return upsampled[:, 0] < threshold


def draw_pixels(random: Tensor, weak: Tensor, share: float) -> Tensor:
    """Return max(1, int(share * K)) of each image's K weak pixels, bool (B, S, S).

    Where K is 0 none is drawn.

    Args:
        random: (B, S, S), numbers in [0, 1). The least of the weak pixels are drawn.
        weak: bool (B, S, S).
        share: of the weak pixels, in [0, 1].
    """
    import torch

    order = torch.where(weak, random, torch.inf).flatten(1).argsort(dim=1, stable=True)
    number = weak.flatten(1).sum(1, keepdim=True)
    count = (share * number.double()).long().clamp(min=1).minimum(number)
    taken = torch.arange(order.shape[1], device=order.device) < count
    return torch.zeros_like(taken).scatter(1, order, taken).reshape(weak.shape)


def touched_blocks(drawn: Tensor, grid: int) -> Tensor:
    """Return the blocks with any drawn pixel, bool (B, g, g), for drawn bool (B, S, S)."""
    side = drawn.shape[-1] // grid
    return drawn.unflatten(2, (grid, side)).unflatten(1, (grid, side)).any(4).any(2)


@functools.lru_cache(maxsize=4)
def _projection(
    seed: int, channels: int, text_channels: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the random projection of a run, float32 (C, D) and (C,).

    It is that of torch's Linear at its start, drawn from the run's seed. It is no parameter and
    stands in no checkpoint.
    """
    import torch

    rng = generator(seed, "alignment projection", channels, text_channels)
    bound = text_channels**-0.5
    weight = rng.uniform(-bound, bound, (channels, text_channels))
    bias = rng.uniform(-bound, bound, channels)
    drawn = (torch.tensor(x, dtype=torch.float32) for x in (weight, bias))
    return tuple(x.to(device, non_blocking=True) for x in drawn)


STRATEGIES = (
    AMLRIS(name="amlris"),
    AMLRIS(name="amlris-paper", masked_weight=1.0),
    # It is the control: as many blocks, at places that say nothing.
    AMLRIS(name="amlris-random", places="random"),
)
