"""MaskRIS (arXiv 2411.19067) and its ablations: masked patches, masked words, and distillation.

It is best read beside Sec. 3 of the paper. Masking (Sec. 3.1 and 3.2) is `MaskRIS.masked`.
Distillation-aware learning (Sec. 3.3) is `MaskRIS.step`:

    y       = network(x, t)                 clean pass, L_ce against the ground truth   (Eq. 2)
    y_m     = network(masked x, masked t)   masked pass of the same samples             (Eq. 3)
    L_dist  = the method's own loss of y_m against the detached soft prediction y       (Eq. 4)
    L       = w L_dist + (1 - w) L_ce                                                   (Eq. 5)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from benchmark.strategies.masking import (
    apply_image_masks,
    check_image_mask,
    check_text_mask,
    draw_image_mask,
    mask_words,
)
from benchmark.strategies.strategy import MicroBatch, Strategy, logged, running_statistics

if TYPE_CHECKING:
    from torch import Tensor

    from methods.config import Config, Definition
    from methods.contract import Batch, Output, Text

IMAGE_SETTINGS = {"image_mask_ratio", "patch_size", "image_mask_sampling"}
TEXT_SETTINGS = {"text_mask_ratio", "text_mask_shares"}
DISTILLATION_SETTINGS = {"distill_weight", "batchnorm_in_masked_pass"}
MASKED_WORDS = ("[MASK]", "random", "kept")


class MaskRIS(Strategy):
    """Masking with or without distillation. The defaults are the paper's.

    Attributes:
        image_mask: whether patches are masked. The first three fields are the switches of Table 3.
        text_mask: whether word pieces are masked.
        distillation: whether the prediction for the whole input teaches that for the masked input.
        distill_weight: w of Eq. 5, in [0, 1]. The paper's Table D calls 1 - w "lambda".
        image_mask_ratio: share of the patches that are masked, in [0, 1].
        patch_size: side of a patch in pixels of the network input.
        image_mask_sampling: decides which patches: `patch`, `grid`, `block` or `cutout` (see
            `masking`).
        text_mask_ratio: probability that a word piece is selected.
        text_mask_shares: of the selected pieces, those that become [MASK], become a random piece,
            and stay. CLIP has no [MASK], so its id 0 stands in. Neither the paper nor any code
            decides this.
        batchnorm_in_masked_pass: whether the masked pass updates BatchNorm's running statistics.
            True is the literal reading. Neither the paper nor any code decides it.
        augment_probability: how often a sample is masked without distillation (App. A.3).
    """

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

    # --- the step -------------------------------------------------------------------------------

    def step(self, micro: MicroBatch) -> dict[str, Tensor]:
        """Add the gradients of Eq. 5.

        Without distillation, add those of the method's own loss on samples some of which are
        masked.
        """
        if not self.distillation:
            # This is masking as an augmentation (App. A.3). The targets stay.
            _, terms, loss = micro.supervised(self.masked(micro, keep_targets=True))
            micro.backward(loss)
            return logged(loss.detach(), terms, loss_ce=loss)

        # Each pass is followed by its backward, so memory stays that of the baseline. The gradients
        # add up to that of Eq. 5.
        weight = self.distill_weight
        output, terms, loss_ce = micro.supervised(micro.batch)
        # The teacher is the train-mode prediction of the present weights. The paper has no moving
        # average of weights and no pass in evaluation mode.
        teacher = detached(output)
        micro.backward(loss_ce, 1 - weight)

        # The masked pass gets no target at all, so it learns from the teacher alone.
        masked = self.masked(micro, keep_targets=False)
        with running_statistics(micro.method, self.batchnorm_in_masked_pass):
            student = micro.forward(masked, "prediction", "masked pass")
        loss_dist = micro.method.distillation(student, teacher)
        micro.backward(loss_dist, weight)

        total = (1 - weight) * loss_ce.detach() + weight * loss_dist.detach()
        return logged(total, terms, loss_ce=loss_ce, loss_dist=loss_dist)

    def masked(self, micro: MicroBatch, keep_targets: bool) -> Batch:
        """Return the micro-batch with patches and words hidden.

        The attention masks stay those of the whole sentences.

        Args:
            micro: the samples.
            keep_targets: whether the batch holds the ground truth.
        """
        from methods.contract import Batch

        batch = micro.batch
        images = batch.images
        text = batch.text
        if self.image_mask:
            images = apply_image_masks(
                images, self.image_masks(micro).to(images.device, non_blocking=True)
            )
        if self.text_mask:
            text = self.masked_text(micro).to(images.device)
        targets = batch.targets if keep_targets else None
        return Batch(images, text, targets, batch.samples, batch.negatives)

    def image_masks(self, micro: MicroBatch) -> Tensor:
        """Return which patches are masked, bool (B, S / patch_size, S / patch_size)."""
        import torch

        size = micro.method.needs.size
        side = size // self.patch_size
        nothing = np.zeros((side, side), bool)
        masks = [
            draw_image_mask(
                micro.rng("image mask", sample),
                size,
                self.patch_size,
                self.image_mask_ratio,
                self.image_mask_sampling,
            )
            if self._applies(micro, sample)
            else nothing
            for sample in micro.samples.samples
        ]
        return torch.from_numpy(np.stack(masks))

    def masked_text(self, micro: MicroBatch) -> Text:
        """Return the sentences, on the CPU, with some word pieces replaced."""
        import torch

        from methods.contract import Text

        text = micro.samples.text
        ids = [
            mask_words(
                micro.rng("text mask", sample),
                row,
                micro.tokenizer,
                self.text_mask_ratio,
                self.text_mask_shares,
            )
            if self._applies(micro, sample)
            else row
            for sample, row in zip(micro.samples.samples, text.ids.numpy(), strict=True)
        ]
        return Text(torch.from_numpy(np.stack(ids)), text.attention)

    def _applies(self, micro: MicroBatch, sample: int) -> bool:
        """Return whether a sample is masked.

        It always is under distillation, and else with `augment_probability`.
        """
        return self.distillation or micro.rng("augment", sample).random() < self.augment_probability

    # --- settings and words -----------------------------------------------------------------------

    def tunable(self) -> set[str]:
        """Return the settings that its switches make use of."""
        settings = set(DISTILLATION_SETTINGS if self.distillation else {"augment_probability"})
        if self.image_mask:
            settings |= IMAGE_SETTINGS
        if self.text_mask:
            settings |= TEXT_SETTINGS
        return settings

    def check(self, definition: Definition, config: Config) -> None:
        """Check that the patches divide the input and the shares of masked words add up.

        Raises:
            UserError: they do not.
        """
        if self.image_mask:
            check_image_mask(
                config.size, self.patch_size, self.image_mask_ratio, self.image_mask_sampling
            )
        if self.text_mask:
            check_text_mask(self.text_mask_ratio, self.text_mask_shares)

    @property
    def heading(self) -> str:
        """What tables call it."""
        return "+MaskRIS" if self.name == "maskris" else f"+{self.name}"

    @property
    def passes(self) -> float:
        """The number of passes of a step: two with distillation, else one."""
        return 2 if self.distillation else 1

    def describe(self) -> list[str]:
        """Return its masks, and how they are learned from."""
        parts = []
        if self.image_mask:
            parts.append(
                f"image mask ratio {self.image_mask_ratio:g}, {self.image_mask_sampling} sampling,"
                f" patches of {self.patch_size} px"
            )
        if self.text_mask:
            parts.append(f"text mask ratio {self.text_mask_ratio:g}")
            if self.text_mask_shares != MaskRIS.model_fields["text_mask_shares"].default:
                shares = zip(self.text_mask_shares, MASKED_WORDS, strict=True)
                parts.append(
                    f"of masked words {', '.join(f'{share:.3g} {what}' for share, what in shares)}"
                )
        if self.distillation:
            updates = "updates" if self.batchnorm_in_masked_pass else "does not update"
            parts.append(f"distillation with w = {self.distill_weight:g}")
            parts.append(f"the masked pass {updates} BatchNorm's running statistics")
        else:
            parts.append(
                f"applied with probability {self.augment_probability:g}, without distillation"
            )
        return parts

    def notes(self, families: set[str]) -> list[str]:
        """Return which way round the weight is meant, and what CLIP has in place of [MASK]."""
        lines = []
        if self.distillation:
            lines.append(
                "w (`distill_weight`) is the weight of L_dist in L = w L_dist + (1 - w) L_ce (Eq. 5"
                " of MaskRIS). The paper's Table D calls 1 - w lambda."
            )
        if self.text_mask and "clip" in families:
            lines.append(
                "CLIP's word pieces have no [MASK]: id 0 stands in. Neither the paper nor any code"
                " decides this."
            )
        return lines


def detached(output: Output) -> Output:
    """Return an output as a constant, from which a student can learn."""
    return type(output)(
        output.logits.detach(), {name: value.detach() for name, value in output.extras.items()}
    )


STRATEGIES = (
    MaskRIS(name="maskris", image_mask=True, text_mask=True, distillation=True),
    # These are the rows of Table 3.
    MaskRIS(name="image-masking", image_mask=True),
    MaskRIS(name="text-masking", text_mask=True),
    MaskRIS(name="masking", image_mask=True, text_mask=True),
    MaskRIS(name="maskris-image", image_mask=True, distillation=True),
    MaskRIS(name="maskris-text", text_mask=True, distillation=True),
)
