"""CM-MaskSD's network as a method.

Loss, decision and input are CRIS'. The branches with hidden patches and words are
strategies, which know no network.
"""

from typing import Any

import torch
from torch import Tensor

from methods.cmmasksd import weights
from methods.cmmasksd.config import DEFINITION, CMMaskSDRecipe
from methods.cmmasksd.network import CMMaskSDNetwork
from methods.config import Purpose
from methods.contract import Batch, Hidden, Output
from methods.cris.method import CRIS


class CMMaskSD(CRIS):
    """CM-MaskSD: Cross-Modality Masked Self-Distillation (IEEE TMM 2024), its main branch."""

    definition = DEFINITION
    network_type = CMMaskSDNetwork
    weights = weights

    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return logits (B, 1, 4g, 4g), without what `batch.hidden` names.

        The extras of the loss are joint embeddings, all of width E: `places` (B, E, g, g),
        `words` (B, L, E), `image` (B, E) of the class token, and `sentence` (B, E).
        """
        network, text = self.network, batch.text
        hidden = batch.hidden or Hidden()
        stages, image = network.stages(batch.images, hidden.patches)
        words, state = network.encode_words(text.ids, hidden.words)
        logits = network.decode(network.neck.project(stages), words, state, text.attention)
        if purpose == "prediction":
            return Output(logits)
        with torch.no_grad():
            joint_words = words @ network.backbone.text_projection
        joint = {"places": stages[-1], "words": joint_words, "image": image, "sentence": state}
        return Output(logits, {name: value.detach() for name, value in joint.items()})

    def parameter_groups(self, recipe: CMMaskSDRecipe) -> list[dict[str, Any]]:
        """Return one group. Nothing is said to be frozen, and all of it decays."""
        return [{"name": "all", "params": list(self.network.parameters())}]

    def schedule(self, recipe: CMMaskSDRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the one rate, which warms up linearly and then falls as a half cosine."""
        return [recipe.rate(step, steps_per_epoch)]
