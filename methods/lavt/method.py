"""LAVT as a method.

The parameter groups and the schedule are the published ones. The loss is that of
`TwoClassMethod`.
"""

from typing import Any, Self

from torch import Tensor

from methods.backbones import bert
from methods.backbones.swin import Block
from methods.contract import Batch, Output, Text
from methods.lavt import weights
from methods.lavt.config import DEFINITION, LavtRecipe
from methods.lavt.network import Decoder, LavtNetwork, PixelWordFusion
from methods.two_class import TwoClassMethod

# The name of a parameter of the backbone contains one of these if it does not decay.
_NO_DECAY = ("norm", "absolute_pos_embed", "relative_position_bias_table")


class LAVT(TwoClassMethod):
    """LAVT: Language-Aware Vision Transformer for Referring Image Segmentation (CVPR 2022)."""

    definition = DEFINITION
    network_type = LavtNetwork
    weights = weights
    blocks = (*bert.BLOCKS, Block, PixelWordFusion, Decoder)

    def train(self, mode: bool = True) -> Self:
        """Set training mode.

        BERT follows only where `bert_dropout` is on. As published it stays in eval mode.
        """
        super().train(mode)
        self.network.text_encoder.train(mode and self.config.bert_dropout)
        return self

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """Return the images, since words are fused inside the visual encoder."""
        return images

    def segment(self, features: Tensor, text: Text) -> Output:
        """Return logits (m, 1, S/4, S/4) and `two_class` (m, 2, S/4, S/4)."""
        return self.output(self.network(features, text.ids, text.attention))

    def whole(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, the backbone's last map, fused with the text, and BERT's words."""
        network, text = self.network, batch.text
        words = network.encode_words(text.ids, text.attention)
        maps = network.backbone(batch.images, words, text.attention)
        return network.classifier(maps), maps[-1], words

    def parameter_groups(self, recipe: LavtRecipe) -> list[dict[str, Any]]:
        """Freeze what the recipe freezes and return the published groups.

        All decay but the backbone's norms and relative position tables.
        """
        self.freeze(recipe)
        names = ("backbone", "backbone_no_decay", "classifier", "text_encoder")
        groups: dict[str, list] = {name: [] for name in names}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                part = name.split(".", 1)[0]
                exempt = part == "backbone" and any(word in name for word in _NO_DECAY)
                groups[f"{part}_no_decay" if exempt else part].append(parameter)
        return self.optimizer_groups(groups, recipe)

    def freeze(self, recipe: LavtRecipe) -> None:
        """Stop the training of the parts of BERT that the recipe freezes. They still run."""
        text_encoder = self.network.text_encoder
        text_encoder.embeddings.requires_grad_(not recipe.freeze_bert_embeddings)
        for index, layer in enumerate(text_encoder.encoder.layer):
            layer.requires_grad_(index not in recipe.freeze_bert_layers)

    def schedule(self, recipe: LavtRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the one rate of the four groups.

        It decays polynomially per iteration, without warm-up.
        """
        return [recipe.rate(step, steps_per_epoch)] * 4
