"""CM-MaskSD (IEEE TMM 2024, arXiv 2305.11481): what one modality finds relevant is hidden.

It is best read beside Sec. III-B of the paper. There are two branches:

    LMVSD   patches that the sentence finds relevant are hidden   (Eqs. 3 to 5)
    VMLSD   words that the image finds relevant are hidden        (Eqs. 6 to 8)

Of the candidates with the highest relevance, a random part is replaced by a learned token. The
code was never published, and the choices that are this suite's stand in `methods/cmmasksd`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from benchmark.base.errors import UserError
from benchmark.strategies.branches import Branch, Branched
from benchmark.strategies.strategy import MicroBatch, require_guides

if TYPE_CHECKING:
    from torch import Tensor

    from methods.config import Config, Definition
    from methods.contract import Output

PATCH_SETTINGS = {"patch_top_k", "patch_alpha", "patch_weight"}
WORD_SETTINGS = {"word_top_k", "word_alpha", "word_weight"}
BRANCH_SETTINGS = {"target", "batchnorm_in_masked_pass"}


class CMMaskSD(Branched):
    """Branches with hidden patches, hidden words, or both. The defaults are the paper's.

    Attributes:
        patches: whether there is the branch LMVSD, which hides patches.
        words: whether there is the branch VMLSD, which hides words.
        patch_top_k: TopK of the patches, in [0, 1]: the share of them that are candidates.
        patch_alpha: share of the candidate patches that are hidden, in [0, 1].
        patch_weight: lambda_1, the weight of LMVSD's loss.
        word_top_k: TopK of the words. Only real word pieces count, neither start, end nor padding.
        word_alpha: share of the candidate words that are hidden.
        word_weight: lambda_2, the weight of VMLSD's loss.
    """

    patches: bool = True
    words: bool = True
    patch_top_k: float = Field(default=0.5, ge=0, le=1)
    patch_alpha: float = Field(default=0.25, ge=0, le=1)
    patch_weight: float = Field(default=0.75, ge=0)
    word_top_k: float = Field(default=0.5, ge=0, le=1)
    word_alpha: float = Field(default=0.1, ge=0, le=1)
    word_weight: float = Field(default=0.1, ge=0)

    def branches(self, micro: MicroBatch, output: Output) -> tuple[list[Branch], dict[str, Tensor]]:
        """Return LMVSD and VMLSD, as far as they are on, and the shares that they hide."""
        import torch

        from methods.contract import Hidden

        aligned = micro.method.aligned(output)
        branches: list[Branch] = []
        shares: dict[str, Tensor] = {}

        def add(name: str, weight: float, what: str, hidden: Tensor, candidates: Tensor) -> None:
            batch = dataclasses.replace(micro.batch, hidden=Hidden(**{what: hidden}))
            branches.append(Branch(name, batch, weight))
            # A share of all candidates of the micro-batch, so that short sentences count less.
            shares[f"hidden_{what}"] = hidden.sum() / candidates.sum().clamp(min=1)

        if self.patches:
            # Plain dot products, neither normalised nor scaled (Eqs. 3 and 6).
            relevance = torch.einsum("bchw,bc->bhw", aligned.places, aligned.sentence).flatten(1)
            every = torch.ones(relevance.shape, dtype=torch.bool)
            hidden = _hidden(
                micro, "hidden patches", relevance, every, self.patch_top_k, self.patch_alpha
            )
            add("lmvsd", self.patch_weight, "patches", hidden, every)
        if self.words:
            relevance = torch.einsum("bld,bd->bl", aligned.words, aligned.image)
            special = torch.tensor(sorted(micro.tokenizer.special_ids))
            pieces = ~torch.isin(micro.samples.text.ids, special)
            hidden = _hidden(
                micro, "hidden words", relevance, pieces, self.word_top_k, self.word_alpha
            )
            add("vmlsd", self.word_weight, "words", hidden, pieces)
        return branches, shares

    # --- settings and words -----------------------------------------------------------------------

    def tunable(self) -> set[str]:
        """Return the settings of the branches that are on."""
        settings = set(BRANCH_SETTINGS)
        if self.patches:
            settings |= PATCH_SETTINGS
        if self.words:
            settings |= WORD_SETTINGS
        return settings

    def check(self, definition: Definition, config: Config) -> None:
        """Check that the method can hide what relevance chooses.

        Raises:
            UserError: it has no aligned features, or no learned token to hide with.
        """
        require_guides(definition, self.name)
        if not definition.hides:
            raise UserError(
                f"the strategy {self.name} replaces embeddings by learned tokens, which the method"
                f" {definition.name} does not have: use split-masking, which hides pixels and word"
                " pieces of any method."
            )

    @property
    def heading(self) -> str:
        """What tables call it."""
        return "+CM-MaskSD" if self.name == "cmmasksd" else f"+{self.name.upper()}"

    @property
    def passes(self) -> float:
        """The number of passes of a step."""
        return 1 + self.patches + self.words

    def describe(self) -> list[str]:
        """Return what each branch hides, and what the branches learn from."""
        parts = []
        if self.patches:
            parts.append(
                f"LMVSD hides {self.patch_alpha:g} of the {self.patch_top_k:g} most relevant"
                f" patches, weight {self.patch_weight:g}"
            )
        if self.words:
            parts.append(
                f"VMLSD hides {self.word_alpha:g} of the {self.word_top_k:g} most relevant words,"
                f" weight {self.word_weight:g}"
            )
        return [*parts, *self.describe_target()]

    def notes(self, families: set[str]) -> list[str]:
        """Return what of CM-MaskSD is this suite's choice, and how to read its published gains."""
        return [
            "CM-MaskSD's code was never published. This suite's choices: the places are chosen on"
            " the encoders' outputs and replaced at the embeddings, all patches are candidates, of"
            " the words only real pieces are, fractions are rounded at random so that they hold in"
            " the mean, and the teacher is detached.",
            "CM-MaskSD's paper compares its mIoU with LAVT's oIoU. Against LAVT's mIoU the ViT-L"
            " margins on RefCOCO shrink to 0.43, 0.65 and 0.34, and ViT-B is below LAVT on all"
            " eight splits.",
        ]


def _hidden(
    micro: MicroBatch,
    purpose: str,
    relevance: Tensor,
    candidates: Tensor,
    top_k: float,
    alpha: float,
) -> Tensor:
    """Return what is hidden of each sample, bool (B, N) on the device of `relevance`.

    Of n candidates the T = ceil(top_k * n) with the highest relevance are kept, and floor(alpha * T
    + u) of these are hidden, where u is uniform in [0, 1). So the number is right in the mean, for
    short sentences, too.

    Args:
        micro: the samples.
        purpose: keys the random numbers, together with the seed, the epoch and the sample.
        relevance: (B, N).
        candidates: bool (B, N), on the CPU.
        top_k: in [0, 1].
        alpha: in [0, 1].
    """
    import torch

    kept, hidden, keys = [], [], []
    for sample, number in zip(micro.samples.samples, candidates.sum(1).tolist(), strict=True):
        rng = micro.rng(purpose, sample)
        # Rounded first, because 0.1 * 30 is a little more than 3 in floating point.
        best = math.ceil(round(top_k * number, 9))
        kept.append(best)
        hidden.append(math.floor(alpha * best + rng.random()))
        keys.append(rng.random(candidates.shape[1]))
    device = relevance.device

    def least(values: Tensor, numbers: list[int]) -> Tensor:
        # A stable order, so that equal relevances are taken from the left.
        ranks = values.argsort(dim=1, stable=True).argsort(1)
        return ranks < torch.tensor(numbers).to(device, non_blocking=True)[:, None]

    left_out = (~candidates).to(device, non_blocking=True)
    top = least((-relevance).masked_fill(left_out, torch.inf), kept)
    random = torch.from_numpy(np.stack(keys)).to(device, non_blocking=True)
    return least(random.masked_fill(~top, torch.inf), hidden)


STRATEGIES = (
    CMMaskSD(name="cmmasksd"),
    CMMaskSD(name="lmvsd", words=False),
    CMMaskSD(name="vmlsd", patches=False),
)
