"""What one training step computes: the baseline, MaskRIS and its ablations. A strategy never knows which method it drives."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from benchmark.base.errors import choose
from benchmark.base.rng import generator, reseed_dropout
from benchmark.data.samples import RawBatch
from benchmark.data.tokenizers import Tokenizer
from benchmark.strategies.augmentation import augment
from benchmark.strategies.masking import apply_image_masks, draw_image_mask, mask_words
from methods.contract import Batch, Method, Output, Text


class Strategy(BaseModel):
    """How a training step uses the batch. The defaults are the paper's; every field is part of the run key.

    Attributes:
        name: what tables call it.
        image_mask, text_mask, distillation: the three switches of Table 3.
        distill_weight: w of L = w * L_dist + (1 - w) * L_ce (Eq. 5). The paper's Table D calls 1 - w "lambda".
        image_mask_ratio: share of masked patches. patch_size: their side in pixels of the network input.
        image_mask_sampling: patch, grid, block or cutout.
        text_mask_ratio: probability that a word piece is selected.
        text_mask_shares: of the selected pieces, how many become [MASK], a random piece, or stay. CLIP has no [MASK]: its id 0
            stands in (neither the paper nor any code decides this).
        batchnorm_in_masked_pass: whether the masked pass updates BatchNorm's running statistics (the literal reading; neither
            the paper nor any code decides this).
        augment_probability: without distillation, how often a sample is masked (App. A.3).
        augmentations: conventional ones, applied to image and mask alike before anything else (see `augmentation`); left out of
            the run key where there are none, so that keys from before there were any stay.
        revision: raised when a fix changes the numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    image_mask: bool = False
    text_mask: bool = False
    distillation: bool = False
    distill_weight: float = Field(default=0.5, ge=0, le=1)
    image_mask_ratio: float = Field(default=0.75, ge=0, le=1)
    patch_size: int = Field(default=32, ge=1)
    image_mask_sampling: Literal["patch", "grid", "block", "cutout"] = "patch"
    text_mask_ratio: float = Field(default=0.15, ge=0, le=1)
    text_mask_shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    batchnorm_in_masked_pass: bool = True
    augment_probability: float = Field(default=0.5, ge=0, le=1)
    augmentations: tuple[Literal["crop", "flip", "jitter"], ...] = Field(default=(), exclude_if=lambda names: not names)
    revision: int = 1


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        Strategy(name="baseline"),
        Strategy(name="image-masking", image_mask=True),
        Strategy(name="text-masking", text_mask=True),
        Strategy(name="masking", image_mask=True, text_mask=True),
        Strategy(name="maskris-image", image_mask=True, distillation=True),
        Strategy(name="maskris-text", text_mask=True, distillation=True),
        Strategy(name="maskris", image_mask=True, text_mask=True, distillation=True),
        Strategy(name="crop", augmentations=("crop",)),
        Strategy(name="flip", augmentations=("flip",)),
        Strategy(name="jitter", augmentations=("jitter",)),
        Strategy(name="crop-flip-jitter", augmentations=("crop", "flip", "jitter")),
    )
}
PAPER_PATCHES = 14
"""Patches a side in the paper: 32 of 448 pixels."""


SETTINGS = set(Strategy.model_fields) - {
    "name",
    "image_mask",
    "text_mask",
    "distillation",
    "augmentations",
    "revision",
}
"""What presets and studies may change of a strategy; the rest is what its name says."""


def get_strategy(name: str) -> Strategy:
    """Return the strategy called `name` with the paper's settings; an unknown name raises a UserError."""
    return STRATEGIES[choose(name, STRATEGIES, "strategy")]


@contextlib.contextmanager
def frozen_running_statistics(network: nn.Module) -> Iterator[None]:
    """Let BatchNorm normalize by batch statistics without touching its running ones."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, track in zip(norms, tracked, strict=True):
            norm.track_running_stats = track


class Masker:
    """Draws the masks of a step, keyed by (seed, epoch, sample)."""

    def __init__(self, strategy: Strategy, tokenizer: Tokenizer, size: int, seed: int) -> None:
        self.strategy, self.tokenizer, self.size, self.seed = strategy, tokenizer, size, seed

    def applies(self, epoch: int, sample: int) -> bool:
        """Return whether a sample is masked: always under distillation, else with `augment_probability`."""
        if self.strategy.distillation:
            return True
        return generator(self.seed, "augment", epoch, sample).random() < self.strategy.augment_probability

    def image_masks(self, samples: list[int], epoch: int) -> Tensor:
        """Return masked patches, bool (B, S / patch_size, S / patch_size)."""
        s, grid = self.strategy, self.size // self.strategy.patch_size
        masks = [
            draw_image_mask(
                generator(self.seed, "image mask", epoch, sample),
                self.size,
                s.patch_size,
                s.image_mask_ratio,
                s.image_mask_sampling,
            )
            if self.applies(epoch, sample)
            else np.zeros((grid, grid), bool)
            for sample in samples
        ]
        return torch.from_numpy(np.stack(masks))

    def text(self, text: Text, samples: list[int], epoch: int) -> Text:
        """Return the sentences (on the CPU) with masked pieces; the attention mask is untouched."""
        ids = [
            mask_words(
                generator(self.seed, "text mask", epoch, sample),
                row,
                self.tokenizer,
                self.strategy.text_mask_ratio,
                self.strategy.text_mask_shares,
            )
            if self.applies(epoch, sample)
            else row
            for sample, row in zip(samples, text.ids.numpy(), strict=True)
        ]
        return Text(torch.from_numpy(np.stack(ids)), text.attention)

    def masked(self, raw: RawBatch, batch: Batch, epoch: int, keep_targets: bool) -> Batch:
        """Return `batch` (the prepared `raw`) with the strategy's masks on its image and words."""
        images, text = batch.images, batch.text
        if self.strategy.image_mask:
            images = apply_image_masks(images, self.image_masks(raw.samples, epoch).to(images.device))
        if self.strategy.text_mask:
            text = self.text(raw.text, raw.samples, epoch).to(images.device)
        return Batch(images, text, batch.targets if keep_targets else None, raw.samples, batch.negatives)


def micro_step(
    network: nn.Module,
    method: Method,
    raw: RawBatch,
    masker: Masker,
    epoch: int,
    step_key: tuple[object, ...],
    share: float,
    backward: Callable[[Tensor], None],
    device: torch.device,
) -> dict[str, float]:
    """Add one micro-batch's gradients and return its losses (unweighted floats).

    Args:
        network: what is called (the method, or its DDP or compiled wrapper). method: the method itself.
        step_key: keys dropout, which the two passes do not share; the method's own noise they do.
        share: this micro-batch's share of the step's loss.
        backward: adds a loss' gradient.

    MaskRIS (section 3.3, Eq. 5) runs as two forward and backward passes, so memory stays the baseline's and the gradient is
    that of the summed loss.
    """
    strategy = masker.strategy
    raw = augment(raw, strategy.augmentations, masker.seed, epoch)
    batch = raw.prepare(method.needs, device)
    drawn = method.draws([generator(masker.seed, "draws", epoch, sample) for sample in raw.samples])
    draws = {name: value.to(device) for name, value in drawn.items()}
    if not strategy.distillation and (strategy.image_mask or strategy.text_mask):
        batch = masker.masked(raw, batch, epoch, keep_targets=True)

    reseed_dropout(*step_key, "clean pass")
    output = network(batch, draws, "loss")
    terms = method.loss(output, batch)
    loss_ce = sum(terms.values())
    losses = {f"train/loss_{name}": term.detach() for name, term in terms.items()} | {"train/loss_ce": loss_ce.detach()}
    weight = strategy.distill_weight if strategy.distillation else 0.0
    teacher = Output(output.logits.detach(), {name: value.detach() for name, value in output.extras.items()})
    backward((1 - weight) * share * loss_ce)
    total = (1 - weight) * loss_ce.detach()

    if strategy.distillation:
        masked = masker.masked(raw, batch, epoch, keep_targets=False)
        reseed_dropout(*step_key, "masked pass")
        keep = contextlib.nullcontext() if strategy.batchnorm_in_masked_pass else frozen_running_statistics(method)
        with keep:
            student = network(masked, draws, "prediction")
        loss_dist = method.distillation(student, teacher)
        backward(weight * share * loss_dist)
        losses["train/loss_dist"] = loss_dist.detach()
        total = total + weight * loss_dist.detach()
    return {"train/loss": total.item()} | {name: value.item() for name, value in losses.items()}


def probe_strategy(size: int) -> Strategy:
    """Return the masks of `probe`: the paper's, the same for every strategy, at an input of side `size`."""
    patch = min((side for side in range(1, size + 1) if size % side == 0), key=lambda s: abs(s - size / PAPER_PATCHES))
    return STRATEGIES["maskris"].model_copy(update={"name": "probe", "patch_size": patch})


@torch.no_grad()
def probe(
    method: Method,
    raw: RawBatch,
    masker: Masker,
    epoch: int,
    key: tuple[object, ...],
    device: torch.device,
) -> dict[str, float]:
    """Return the method's loss on a training batch, original and masked (the paper's Fig. B), in train mode.

    It leaves nothing behind: no gradient, no running statistics, and every draw of a step is keyed by itself.
    """
    batch = raw.prepare(method.needs, device)
    drawn = method.draws([generator(masker.seed, "draws", epoch, sample) for sample in raw.samples])
    draws = {name: value.to(device) for name, value in drawn.items()}
    losses = {}
    with frozen_running_statistics(method):
        for name, seen in (("original", batch), ("masked", masker.masked(raw, batch, epoch, keep_targets=True))):
            reseed_dropout(*key, name)
            losses[f"probe/loss_{name}"] = sum(method.loss(method(seen, draws, "loss"), seen).values()).item()
    return losses
