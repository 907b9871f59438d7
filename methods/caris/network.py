"""CARIS' network, made of Swin, BERT with prompts made from the image, and a pixel decoder.

Liu et al., CARIS: Context-Aware Referring Image Segmentation, ACM MM 2023. Module names
are those of the published checkpoints.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.backbones import bert
from methods.backbones.swin import Swin
from methods.caris.config import CarisConfig
from methods.caris.decoder import PixelDecoder


class Features(NamedTuple):
    """What an image's sentences share, all with leading dimension n.

    Attributes:
        prompts: (n, P, T), the prompts that are appended to BERT's words.
        lateral: (n, C, S/4, S/4), the finest map.
        levels: maps (n, C, h, w) at strides 32, 16 and 8.
    """

    prompts: Tensor
    lateral: Tensor
    levels: list[Tensor]


class ConditionalPrompts(nn.Module):
    """Prompts that tell the text encoder what the image shows.

    Args:
        channels: channels of the coarsest map.
        text_channels: channels of a prompt.
        grids: sides of the grids that the map is pooled to.
    """

    def __init__(self, channels: int, text_channels: int, grids: tuple[int, ...]) -> None:
        super().__init__()
        self.grids = grids
        self.in_linears = nn.ModuleList(nn.Linear(channels, text_channels) for _ in grids)
        self.out_linears = nn.ModuleList(nn.Linear(text_channels, text_channels) for _ in grids)
        self.lang_prompts = nn.Embedding(sum(side**2 for side in grids), text_channels)
        self.lang_prompts_norm = nn.LayerNorm(text_channels)
        for layer in (*self.in_linears, *self.out_linears):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, coarse: Tensor) -> Tensor:
        """Return (B, P, T) for the coarsest map (B, C, h, w)."""
        pooled = (
            F.adaptive_avg_pool2d(coarse, side).flatten(2).transpose(1, 2) for side in self.grids
        )
        seen = [
            outward(inward(cells).relu())
            for cells, inward, outward in zip(
                pooled, self.in_linears, self.out_linears, strict=True
            )
        ]
        return self.lang_prompts_norm(torch.cat(seen, 1) + self.lang_prompts.weight)


class Backbone(nn.Module):
    """Both encoders and the prompts between them.

    The image is encoded first, so that the words see it.
    """

    def __init__(self, config: CarisConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.vis_encoder = Swin(config.swin, config.size)
        self.vis_encoder.reset()
        self.lang_encoder = bert.build(config.bert, vocabulary_size)
        self.conditional_prompts = ConditionalPrompts(
            config.swin.channels[-1], config.bert.hidden, config.prompts
        )

    def encode_words(self, ids: Tensor, attention: Tensor, prompts: Tensor) -> Tensor:
        """Return the words' states (B, L, T).

        Args:
            ids: int64 (B, L), word pieces.
            attention: int64 (B, L), 0 at padding.
            prompts: (B, P, T).
        """
        # Prompts follow behind BERT's embeddings, so they get no position, no type, and
        # neither its norm nor its dropout (published).
        states = torch.cat([self.lang_encoder.embeddings(ids), prompts], 1)
        attention = F.pad(attention, (0, prompts.shape[1]), value=1)
        return bert.encode(self.lang_encoder, states, attention)[:, : ids.shape[1]]


class CarisNetwork(nn.Module):
    """Encoders and pixel decoder.

    Args:
        config: size of the network.
        vocabulary_size: number of word pieces that BERT knows.
    """

    def __init__(self, config: CarisConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.backbone = Backbone(config, vocabulary_size)
        self.pixel_decoder = PixelDecoder(
            config.swin.channels,
            config.bert.hidden,
            self.backbone.conditional_prompts.lang_prompts.num_embeddings,
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            inner=config.attention_width,
            mlp=config.mlp_width,
            points=config.points,
            deviation=config.deviation,
        )

    def encode_image(self, images: Tensor) -> Features:
        """Return what needs no text, for normalized images (B, 3, H, W)."""
        return self.project(self.backbone.vis_encoder(images))

    def project(self, maps: list[Tensor]) -> Features:
        """Return what `encode_image` returns, for Swin's four maps, from fine to coarse."""
        return Features(
            self.backbone.conditional_prompts(maps[-1]), *self.pixel_decoder.project(maps)
        )

    def segment(self, features: Features, ids: Tensor, attention: Tensor) -> Tensor:
        """Return two-class logits (B, 2, H/4, W/4), background and referent.

        Args:
            features: what `encode_image` returned.
            ids: int64 (B, L), the sentences' word pieces.
            attention: int64 (B, L), 0 at padding.
        """
        words = self.backbone.encode_words(ids, attention, features.prompts)
        return self.decode(features, words, attention)

    def decode(self, features: Features, words: Tensor, attention: Tensor) -> Tensor:
        """Return what `segment` returns, for word states (B, L, T) of any origin."""
        return self.pixel_decoder(features.lateral, features.levels, words, attention)
