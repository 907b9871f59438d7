"""ETRIS as a method.

The loss and the decision are CRIS'. The network, the frozen towers and the schedule are
its own.
"""

from typing import Any

from torch import Tensor

from methods.backbones import clip
from methods.config import Purpose
from methods.contract import Batch, Output
from methods.cris.method import CRIS
from methods.cris.network import DecoderLayer, Projector
from methods.etris import weights
from methods.etris.config import DEFINITION, EtrisRecipe
from methods.etris.network import EtrisNetwork, Interactor, InteractorT


class ETRIS(CRIS):
    """ETRIS: Bridging Vision and Language Encoders (ICCV 2023).

    Input, loss and decision are CRIS', as in the published code.
    """

    definition = DEFINITION
    network_type = EtrisNetwork
    weights = weights
    blocks = (*clip.BLOCKS, Interactor, InteractorT, DecoderLayer, Projector)

    def forward(self, batch: Batch, draws: dict[str, Tensor], purpose: Purpose) -> Output:
        """Return logits (B, 1, S/4, S/4).

        The extras of the loss are `places` (B, E, h, w), the joint embedding of the last
        stage, and `words` (B, L, D). Both have been through the Bridger.
        """
        features = self.encode_image(batch.images, draws)
        if purpose == "prediction":
            return self.segment(features, batch.text)
        maps, words, state = self.network.encode(features, batch.text.ids)
        logits = self.network.decode(maps, words, state, batch.text.attention)
        return Output(logits, {"places": maps[-1], "words": words})

    def parameter_groups(self, recipe: EtrisRecipe) -> list[dict[str, Any]]:
        """Freeze what the recipe freezes and return `backbone` and `rest`, as published.

        `backbone` is the Bridger and what is trained of the towers but their position
        tables.
        """
        groups: dict[str, list] = {"backbone": [], "rest": []}
        for name, parameter in self.network.named_parameters():
            tower = name.startswith("backbone.") and "positional_embedding" not in name
            parameter.requires_grad_(not (tower and recipe.freeze_backbone))
            if parameter.requires_grad:
                group = "backbone" if tower or name.startswith("bridger.") else "rest"
                groups[group].append(parameter)
        return [{"name": name, "params": parameters} for name, parameters in groups.items()]

    def schedule(self, recipe: EtrisRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the one rate of both groups, constant within an epoch."""
        return [recipe.rate(step // steps_per_epoch)] * 2
