"""CARIS as a method.

The parameter groups and the schedule are the published ones. The loss is that of
`TwoClassMethod`.
"""

from typing import Any

from torch import Tensor

from methods.backbones import bert
from methods.backbones.swin import Block
from methods.caris import weights
from methods.caris.config import DEFINITION, CarisRecipe
from methods.caris.decoder import DecoderLayer
from methods.caris.network import CarisNetwork, Features
from methods.contract import Batch, Output, Text
from methods.two_class import TwoClassMethod

# Each part of the network has words that the names of its parameters without decay
# contain. GroupNorm is called `gn`, so it decays.
_NO_DECAY = {
    "vis_encoder": ("norm", "relative_position_bias_table"),
    "lang_encoder": ("Norm", "embeddings"),
    "rest": ("norm", "lang_prompts", "vis_prompts"),
}


class CARIS(TwoClassMethod):
    """CARIS: Context-Aware Referring Image Segmentation (ACM MM 2023)."""

    definition = DEFINITION
    network_type = CarisNetwork
    weights = weights
    blocks = (*bert.BLOCKS, Block, DecoderLayer)

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Features:
        """Return the prompts for BERT and the projected maps, which an image's sentences share."""
        return self.network.encode_image(images)

    def segment(self, features: Features, text: Text) -> Output:
        """Return logits (m, 1, S/4, S/4) and `two_class` (m, 2, S/4, S/4)."""
        return self.output(self.network.segment(features, text.ids, text.attention))

    def whole(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, Swin's last map, and BERT's words, which have seen the image."""
        network, text = self.network, batch.text
        maps = network.backbone.vis_encoder(batch.images)
        features = network.project(maps)
        words = network.backbone.encode_words(text.ids, text.attention, features.prompts)
        return network.decode(features, words, text.attention), maps[-1], words

    def parameter_groups(self, recipe: CarisRecipe) -> list[dict[str, Any]]:
        """Return the published groups.

        They are both encoders and the rest, each with and without decay.
        """
        groups: dict[str, list] = {
            f"{part}{suffix}": [] for part in _NO_DECAY for suffix in ("", "_no_decay")
        }
        for name, parameter in self.network.named_parameters():
            part = next((part for part in _NO_DECAY if f".{part}." in name), "rest")
            exempt = any(word in name for word in _NO_DECAY[part])
            groups[f"{part}_no_decay" if exempt else part].append(parameter)
        return self.optimizer_groups(groups, recipe)

    def schedule(self, recipe: CarisRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the rates of the six groups.

        They warm up linearly and then decay polynomially, per iteration.
        """
        if step == 0 and recipe.first_step_at_full_rate:
            rate = recipe.learning_rate
        elif step <= recipe.warmup_steps:
            missing = (1 - step / max(recipe.warmup_steps, 1)) * (1 - recipe.warmup_ratio)
            rate = recipe.learning_rate * (1 - missing)
        else:
            # Published: the decay counts from step 0, not from the end of the warm-up.
            rate = recipe.rate(step, steps_per_epoch)
        return [recipe.backbone_multiplier * rate] * 4 + [rate] * 2
