"""ETRIS as a method: CRIS' loss and decision with its own network, frozen towers and schedule."""

from typing import Any, ClassVar

from methods.backbones.clip import SMALL, TINY
from methods.config import Recipe
from methods.cris.method import CRIS
from methods.etris import weights
from methods.etris.network import EtrisConfig, EtrisNetwork

_SCRATCH = (
    "trained from scratch: CLIP's towers start from random weights, not from the published ones",
    "the towers, frozen as published but for their position tables, are trained: random weights cannot stay as they are",
    "word pieces trained on the training sentences in place of CLIP's 49,408",
    "a higher learning rate than the published one, which starts from trained towers",
    "branch_gain 0 and kernel_gain 0.1: a start from which Bridger, attention and the sentence's kernel grow in",
)


class EtrisRecipe(Recipe):
    """ETRIS' training schedule.

    Attributes:
        milestones: epochs at whose end the rate is multiplied by `gamma`.
        freeze_backbone: whether both towers run untrained, but for their position tables. Their BatchNorm still uses and
            tracks batch statistics, as published.
    """

    milestones: tuple[int, ...] = (35,)
    gamma: float = 0.1
    freeze_backbone: bool = True

    def stretched(self, factor: float) -> dict[str, Any]:
        """Return the changes as `Recipe.stretched` does, milestones moved along (rounded to whole epochs)."""
        return super().stretched(factor) | {"milestones": tuple(round(factor * epoch) for epoch in self.milestones)}


_PUBLISHED = EtrisRecipe(
    epochs=50, batch_size=32, micro_batch=32, learning_rate=1e-4, optimizer="adam", precision="fp16"
)


class ETRIS(CRIS):
    """ETRIS: Bridging Vision and Language Encoders (ICCV 2023). As in the published code, input, loss and decision are CRIS'."""

    name = "etris"
    recipe_type = EtrisRecipe
    network_type = EtrisNetwork
    weights = weights
    variants: ClassVar[dict[str, EtrisConfig]] = {
        "paper": EtrisConfig.published("RN101"),
        "paper-rn50": EtrisConfig.published("RN50"),
        "paper-vitb16": EtrisConfig.published("ViT-B/16"),
        "small": EtrisConfig(
            size=224,
            max_length=20,
            clip=SMALL,
            decoder_heads=4,
            branch_gain=0.0,
            kernel_gain=0.1,
            departures=_SCRATCH,
        ),
        "tiny": EtrisConfig(
            size=96,
            max_length=20,
            clip=TINY,
            bridger_width=32,
            bridger_heads=2,
            decoder_layers=1,
            decoder_heads=4,
            decoder_ffn=128,
            dropout=0.0,
            branch_gain=0.0,
            kernel_gain=0.1,
            departures=(*_SCRATCH, "no dropout: a minute of training does not overfit"),
        ),
    }
    recipes: ClassVar[dict[str, EtrisRecipe]] = {
        "paper": _PUBLISHED,
        "paper-rn50": _PUBLISHED,
        "paper-vitb16": _PUBLISHED,
        "small": EtrisRecipe(
            epochs=20,
            batch_size=64,
            micro_batch=64,
            learning_rate=5e-4,
            optimizer="adam",
            precision="bf16",
            milestones=(16,),
            freeze_backbone=False,
        ),
        "tiny": EtrisRecipe(
            epochs=3,
            batch_size=16,
            micro_batch=16,
            learning_rate=4e-4,
            optimizer="adam",
            milestones=(2,),
            gamma=0.5,
            freeze_backbone=False,
        ),
    }

    def parameter_groups(self, recipe: EtrisRecipe) -> list[dict[str, Any]]:
        """Freeze what the recipe freezes and return `backbone` (the Bridger and what is trained of the towers but their
        position tables) and `rest`, as published."""
        groups: dict[str, list] = {"backbone": [], "rest": []}
        for name, parameter in self.network.named_parameters():
            tower = name.startswith("backbone.") and "positional_embedding" not in name
            parameter.requires_grad_(not (tower and recipe.freeze_backbone))
            if parameter.requires_grad:
                groups["backbone" if tower or name.startswith("bridger.") else "rest"].append(parameter)
        return [{"name": name, "params": parameters} for name, parameters in groups.items()]

    def schedule(self, recipe: EtrisRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the rate of both groups: constant within an epoch, times `gamma` at every milestone."""
        epoch = step // steps_per_epoch
        return [recipe.learning_rate * recipe.gamma ** sum(epoch >= milestone for milestone in recipe.milestones)] * 2
