"""SaG's network, in which a ViT's tokens are shattered into slots that sentences gather.

A decoder paints the tokens from the slots again. Kim et al., Shatter and Gather:
Learning Referring Image Segmentation with Text Supervision, ICCV 2023. Module names are
those of the published checkpoints.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.backbones import bert
from methods.backbones.positions import sine_position
from methods.backbones.sizes import BertSize
from methods.backbones.vit import Vit
from methods.sag.config import SagConfig
from methods.sag.slots import Attention, FeedForward, Shatter

# The number of rows, and of columns, that the decoder has positions for.
_LONGEST_SIDE = 50


class Features(NamedTuple):
    """What an image's sentences share.

    Attributes:
        slots: (n, S, C), the slots of an image.
        maps: (n, S, h, w), how much of a place each slot owns. They sum to 1 over slots.
    """

    slots: Tensor
    maps: Tensor


class ImageEncoder(nn.Module):
    """A ViT, its tokens with positions, and the slots that they are shattered into."""

    def __init__(self, config: SagConfig) -> None:
        super().__init__()
        self.img_backbone = Vit(config.vit)
        self.spm_1x1 = nn.Linear(config.vit.width, config.width)
        self.set_pred_module = Shatter(
            config.width,
            config.groups,
            config.group_size,
            config.iterations,
            heads=config.heads,
            head_width=config.head_width,
            group_head_width=config.group_head_width,
            inner=config.feed_forward,
            dropout=config.dropout,
        )

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Features, Tensor]:
        """Return slots and maps, and the tokens (B, h * w, T) that they are made of.

        Args:
            images: (B, 3, H, W), normalized.
            noise: (B, S, C), standard normal.
        """
        patch = self.img_backbone.patch_embed.patch_size[0]
        height, width = (side // patch for side in images.shape[-2:])
        tokens = self.img_backbone.forward_features(images)[:, 1:]
        projected = self.spm_1x1(tokens)
        # Positions are in keys and in values (published).
        position = sine_position(height, width, projected.shape[-1], images.device)
        projected = projected + position
        slots, maps = self.set_pred_module(projected, noise)
        return Features(slots, maps.unflatten(-1, (height, width))), tokens


class TextEncoder(nn.Module):
    """BERT's [CLS] state, projected."""

    def __init__(self, size: BertSize, width: int, vocabulary_size: int) -> None:
        super().__init__()
        self.bert = bert.build(size, vocabulary_size)
        self.linear = nn.Linear(size.hidden, width)

    def forward(self, ids: Tensor, attention: Tensor) -> Tensor:
        """Return sentences (B, C) for ids and attention int64 (B, L)."""
        length = bert.longest(attention)
        return self.encode(ids[:, :length], attention[:, :length])[1]

    def encode(self, ids: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Return BERT's states (B, L, T), of which only the first is read, and sentences (B, C)."""
        words = bert.encode(self.bert, self.bert.embeddings(ids), attention)
        return words, self.linear(words[:, 0])


class Gather(nn.Module):
    """The modality fusion module, in which a sentence gathers the slots that it speaks of.

    Sentences do not see each other.
    """

    def __init__(self, config: SagConfig) -> None:
        super().__init__()
        self.attn = Attention(config.width, config.heads, config.head_width, config.dropout)
        # There is no dropout here (published).
        self.ff = FeedForward(config.width, config.feed_forward, 0.0)

    def forward(self, sentences: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit vectors (n, q, C) and the slots' weights (n, q, S), which sum to 1.

        Args:
            sentences: (n, q, C), q sentences for each of n images.
            slots: (n, S, C).
        """
        gathered, weights = self.attn(sentences, slots)
        return F.normalize(self.ff(gathered), dim=-1), weights


class SlotDecoder(nn.Module):
    """Slots paint the image's tokens.

    Each slot proposes a token and its opacity at every place. Only training needs this.

    Args:
        width: channels of a slot.
        tokens: channels of a token.
    """

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.pos_emb = nn.ModuleDict(
            {name: nn.Embedding(_LONGEST_SIDE, width // 2) for name in ("row_embed", "col_embed")}
        )
        for table in self.pos_emb.values():
            nn.init.uniform_(table.weight)
        hidden = [layer for _ in range(3) for layer in (nn.Linear(width, width), nn.ReLU())]
        self.mlp = nn.Sequential(*hidden, nn.Linear(width, tokens + 1))

    def forward(self, slots: Tensor, height: int, width: int) -> Tensor:
        """Return tokens (B, h * w, T) for slots (B, S, C)."""
        rows = self.pos_emb["row_embed"].weight[:height]
        columns = self.pos_emb["col_embed"].weight[:width]
        across, down = columns.expand(height, -1, -1), rows[:, None].expand(-1, width, -1)
        position = torch.cat([across, down], -1).flatten(0, 1)
        # The first layer of a sum is the sum of its products: one for each slot and one for each
        # place, where the published code has one for each pair.
        first, *others = self.mlp
        painted = F.linear(slots, first.weight)[:, :, None] + first(position)
        for layer in others:
            painted = layer(painted)
        # Two slices would each be a gradient of the whole size, filled with zeros.
        tokens, opacity = painted.split((painted.shape[-1] - 1, 1), -1)
        return (opacity.softmax(1) * tokens).sum(1)


class SagNetwork(nn.Module):
    """Encoders, gathering and decoder.

    Args:
        config: size of the network.
        vocabulary_size: number of word pieces that BERT knows.
    """

    def __init__(self, config: SagConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                "img_enc": ImageEncoder(config),
                "txt_enc": TextEncoder(config.bert, config.width, vocabulary_size),
            }
        )
        self.cma = Gather(config)
        self.decoder = SlotDecoder(config.width, config.vit.width)

    def encode_image(self, images: Tensor, noise: Tensor) -> tuple[Features, Tensor]:
        """Return features, and the tokens (B, h * w, T) for the reconstruction.

        Args:
            images: (B, 3, H, W), normalized.
            noise: (B, S, C), standard normal.
        """
        return self.encoders["img_enc"](images, noise)

    def encode_text(self, ids: Tensor, attention: Tensor) -> Tensor:
        """Return sentences (B, C) for ids and attention int64 (B, L)."""
        return self.encoders["txt_enc"](ids, attention)

    @staticmethod
    def score(maps: Tensor, weights: Tensor) -> Tensor:
        """Return how likely a slot that the sentence wants owns a place, (m, 1, h, w).

        Args:
            maps: (m, S, h, w), how much of a place each slot owns.
            weights: (m, S), how much the sentence wants each slot. Like the maps they sum
                to 1 over slots, so the score lies between 0 and 1.
        """
        return (weights[..., None, None] * maps).sum(1, keepdim=True)
