"""LAVT as a method: published loss, decision, parameter groups and schedule."""

from typing import Any, ClassVar

from torch import Tensor

from methods.backbones.bert import BertSize
from methods.backbones.swin import SwinSize
from methods.config import Recipe
from methods.contract import Output, Text
from methods.lavt import weights
from methods.lavt.network import LavtConfig, LavtNetwork
from methods.two_class import TwoClassMethod

_NO_DECAY = ("norm", "absolute_pos_embed", "relative_position_bias_table")
_SCRATCH = (
    "trained from scratch: Swin and BERT start from random weights, not from the published ones",
    "BERT's embeddings and last layers, frozen as published, are trained: random weights cannot stay as they are",
    "word pieces trained on the training sentences in place of BERT's 30,522",
    "a higher learning rate than the published one, which fine-tunes",
)


class LavtRecipe(Recipe):
    """LAVT's training schedule.

    Attributes:
        power: of the polynomial decay, per iteration.
        freeze_bert_embeddings, freeze_bert_layers: parts of BERT that run but are not trained. The published optimizer is
            given layers 0 to 9 alone.
    """

    power: float = 0.9
    freeze_bert_embeddings: bool = True
    freeze_bert_layers: tuple[int, ...] = (10, 11)


_PUBLISHED = LavtRecipe(
    epochs=40, batch_size=32, micro_batch=32, learning_rate=5e-5, weight_decay=1e-2, optimizer="adamw"
)


class LAVT(TwoClassMethod):
    """LAVT: Language-Aware Vision Transformer for Referring Image Segmentation (CVPR 2022)."""

    name = "lavt"
    network_type = LavtNetwork
    recipe_type = LavtRecipe
    text = ("bert", "raw")
    weights = weights
    variants: ClassVar[dict[str, LavtConfig]] = {
        "paper": LavtConfig.published("base"),
        "paper-s": LavtConfig.published("small", window=7),
        "paper-t": LavtConfig.published("tiny", window=7),
        "small": LavtConfig(
            size=224,
            max_length=20,
            swin=SwinSize(embed_dim=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), window=7, drop_path=0.1),
            bert=BertSize(hidden=256, layers=4, heads=4, intermediate=1024, positions=32),
            decoder_width=192,
            departures=(*_SCRATCH, "drop path 0.1 in place of 0.3, and a decoder of half the width"),
        ),
        "tiny": LavtConfig(
            size=64,
            max_length=20,
            swin=SwinSize(embed_dim=16, depths=(1, 1, 1, 1), heads=(1, 2, 4, 8), window=4, drop_path=0.02),
            bert=BertSize(hidden=64, layers=1, heads=4, intermediate=128, positions=32),
            decoder_width=32,
            departures=(*_SCRATCH, "drop path 0.02 in place of 0.3, and a decoder of half the width"),
        ),
    }
    recipes: ClassVar[dict[str, LavtRecipe]] = {
        "paper": _PUBLISHED,
        "paper-s": _PUBLISHED,
        "paper-t": _PUBLISHED,
        "small": LavtRecipe(
            epochs=20,
            batch_size=64,
            micro_batch=64,
            learning_rate=3e-4,
            weight_decay=1e-2,
            optimizer="adamw",
            precision="bf16",
            freeze_bert_embeddings=False,
            freeze_bert_layers=(),
        ),
        "tiny": LavtRecipe(
            epochs=1,
            batch_size=16,
            micro_batch=16,
            learning_rate=1.5e-3,
            weight_decay=1e-2,
            optimizer="adamw",
            freeze_bert_embeddings=False,
            freeze_bert_layers=(),
        ),
    }

    def train(self, mode: bool = True) -> "LAVT":
        """Set training mode; BERT follows only where `bert_dropout` is on (published: it stays in eval mode)."""
        super().train(mode)
        self.network.text_encoder.train(mode and self.config.bert_dropout)
        return self

    def encode_image(self, images: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """Return the images: words are fused inside the visual encoder."""
        return images

    def segment(self, features: Tensor, text: Text) -> Output:
        """Return logits (m, 1, S/4, S/4) and `two_class` (m, 2, S/4, S/4) for images (m, 3, S, S)."""
        return self.output(self.network(features, text.ids, text.attention))

    def parameter_groups(self, recipe: LavtRecipe) -> list[dict[str, Any]]:
        """Freeze what the recipe freezes and return the published groups.

        All decay but the backbone's norms and relative position tables.
        """
        self.freeze(recipe)
        groups: dict[str, list] = {"backbone": [], "backbone_no_decay": [], "classifier": [], "text_encoder": []}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                part = name.split(".", 1)[0]
                exempt = part == "backbone" and any(word in name for word in _NO_DECAY)
                groups[f"{part}_no_decay" if exempt else part].append(parameter)
        decays = {name: 0.0 if name.endswith("_no_decay") else recipe.weight_decay for name in groups}
        return [{"name": name, "params": groups[name], "weight_decay": decays[name]} for name in groups]

    def freeze(self, recipe: LavtRecipe) -> None:
        """Stop training the parts of BERT that the recipe freezes; they still run."""
        text_encoder = self.network.text_encoder
        text_encoder.embeddings.requires_grad_(not recipe.freeze_bert_embeddings)
        for index, layer in enumerate(text_encoder.encoder.layer):
            layer.requires_grad_(index not in recipe.freeze_bert_layers)

    def schedule(self, recipe: LavtRecipe, step: int, steps_per_epoch: int) -> list[float]:
        """Return the rate of the four groups: polynomial decay per iteration, no warm-up."""
        remaining = max(0.0, 1 - step / (recipe.epochs * steps_per_epoch))
        return [recipe.learning_rate * remaining**recipe.power] * 4
