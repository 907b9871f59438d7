"""ETRIS' network, with a Bridger between CLIP's towers, a neck, CRIS' decoder and projector.

Xu et al., Bridging Vision and Language Encoders: Parameter-Efficient Tuning for
Referring Image Segmentation, ICCV 2023.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.backbones.attention import attend
from methods.backbones.clip import (
    ResNetStages,
    VitStages,
    build_clip,
    embed_words,
    read_words,
    run_words,
    thirds,
)
from methods.cris.network import CoordConv, Decoder, Maps, Projector, cbr, scale_start
from methods.etris.config import EtrisConfig, Triple


def tokens(x: Tensor) -> Tensor:
    """Return a map (B, C, h, w) as tokens (B, h * w, C)."""
    return x.flatten(2).transpose(1, 2)


def rescale(inputs: int, outputs: int, scale: int, up: bool) -> nn.Conv2d | nn.ConvTranspose2d:
    """Return a convolution without bias whose kernel and stride are `scale`.

    It is transposed where it goes up.
    """
    convolution = nn.ConvTranspose2d if up else nn.Conv2d
    return convolution(inputs, outputs, scale, scale, bias=False)


def normed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """Return the convolution with BatchNorm and ReLU behind it."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())


class Interactor(nn.Module):
    """A transformer decoder layer with norms last, for ResNet towers.

    It attends to itself, then to the other modality, and ends in a feed-forward
    network. There are no position codes and no padding mask, so every word sees every
    word, padding included (published).
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(width, 2 * width)
        self.linear2 = nn.Linear(2 * width, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Return x (B, N, d) after attending to `other` (B, M, d)."""
        attended = attend(self.self_attn, x)
        x = self.norm1(x + self.dropout(attended))
        attended = attend(self.multihead_attn, x, other)
        x = self.norm2(x + self.dropout(attended))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm3(x + self.dropout(self.linear2(hidden)))


class InteractorT(nn.Module):
    """Attention to the other modality as a gate, for ViT towers.

    It has no residual, no norm and no feed-forward network.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Return x (B, N, d) times what it attends to in `other` (B, M, d)."""
        return x * attend(self.multihead_attn, x, other)


class Bridger(nn.Module):
    """Exchange between the towers after each of three stages (ETRIS, section 3).

    It works at stride 16 and in few channels.
    """

    def __init__(self, config: EtrisConfig) -> None:
        super().__init__()
        width, text, vit = config.bridger_width, config.clip.text_width, config.clip.vit
        sizes = list(zip(range(3), config.channels, config.scales, strict=True))
        # Only the last stage is finer at stride 16 than in its tower.
        zoom_in = [rescale(inner, width, scale, up=stage == 2) for stage, inner, scale in sizes]
        zoom_out = [rescale(width, inner, scale, up=stage < 2) for stage, inner, scale in sizes]
        self.zoom_in = nn.ModuleList(map(normed, zoom_in) if vit else zoom_in)
        self.zoom_out = nn.ModuleList(map(normed, zoom_out) if vit else zoom_out)
        self.linear1 = nn.ModuleList(nn.Linear(text, width) for _ in range(3))
        self.linear2 = nn.ModuleList(nn.Linear(width, text) for _ in range(3))
        self.fusion_v, self.fusion_t = (
            nn.ModuleList(
                InteractorT(width, config.bridger_heads)
                if vit
                else Interactor(width, config.bridger_heads, config.dropout)
                for _ in range(3)
            )
            for _ in range(2)
        )
        self.ln_v = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.ln_t = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def fuse(
        self, stage: int, zoomed: Tensor, t: Tensor, last: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Return what a stage adds to image and words, and what it carries to the next.

        Args:
            stage: 0, 1 or 2.
            zoomed: (B, d, h, w), the image tower's map, zoomed in.
            t: (B, L, D), states of the text tower.
            last: image tokens (B, h * w, d) and word tokens (B, L, d) that the stage
                before carried. None at stage 0.
        """
        z, u = tokens(zoomed), self.linear1[stage](t)
        if last is not None:
            z, u = self.ln_v[stage - 1](z + last[0]), self.ln_t[stage - 1](u + last[1])
        # Both sides see the other as it was before this fusion, and that is also what
        # is carried on.
        fused_z, fused_u = self.fusion_v[stage](z, u), self.fusion_t[stage](u, z)
        fused_map = fused_z.transpose(1, 2).unflatten(-1, zoomed.shape[-2:])
        change = self.zoom_out[stage](fused_map)
        return change, self.linear2[stage](fused_u), (z, u)


class Gate(nn.Module):
    """The neck's attention of a map to the sentence state (ETRIS, section 4).

    With a single key every attention weight is 1, whatever the query and the number of
    heads. What remains is a gate per channel. Query and key weights are kept and get a
    zero gradient, as published.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, 1)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Return x (B, D, h, w) times the gate of the states (B, D)."""
        attention = self.multihead_attn
        weight, bias = attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2]
        value = F.linear(state, weight, bias)
        return x * attention.out_proj(value)[:, :, None, None]


class Neck(nn.Module):
    """Three maps at stride 16, gated by the sentence and merged (ETRIS, section 4).

    Args:
        inputs: channels of the three maps.
        scales: factors that bring them to stride 16.
        width: channels of the result.
        state: channels of a sentence state.
    """

    def __init__(self, inputs: Triple, scales: Triple, width: int, state: int) -> None:
        super().__init__()
        self.fusion3, self.fusion4, self.fusion5 = (Gate(width) for _ in range(3))
        self.txt_proj = nn.Linear(state, width)
        self.f3_proj = normed(rescale(inputs[0], width, scales[0], up=False))
        self.f4_proj = normed(rescale(inputs[1], width, scales[1], up=False))
        self.f5_proj = normed(rescale(inputs[2], width, scales[2], up=True))
        self.aggr = cbr(3 * width, width, 1, 0)
        self.coordconv = nn.Sequential(CoordConv(width, width), cbr(width, width, 3, 1))

    def forward(self, maps: Maps, state: Tensor) -> Tensor:
        """Return (B, D, S/16, S/16) for the three stages' maps and sentence states (B, E)."""
        v3, v4, v5 = maps
        state = self.txt_proj(state)
        q3 = self.fusion3(self.f3_proj(v3), state)
        q4 = self.fusion4(self.f4_proj(v4), state)
        q5 = self.fusion5(self.f5_proj(v5), state)
        return self.coordconv(self.aggr(torch.cat([q3, q4, q5], 1)))


class EtrisNetwork(nn.Module):
    """ETRIS (ICCV 2023), figure 2. Parameter names are the published ones.

    Args:
        config: size of the network.
        vocabulary_size: number of word pieces that CLIP knows.

    Raises:
        ValueError: the depth of a transformer is no multiple of 3.
    """

    def __init__(self, config: EtrisConfig, vocabulary_size: int) -> None:
        super().__init__()
        clip, width = config.clip, config.clip.text_width
        if clip.text_layers % 3 or (clip.vit and clip.layers % 3):
            raise ValueError(
                "the Bridger has three stages: a transformer's depth must be a multiple of 3"
            )
        self.backbone = build_clip(clip, vocabulary_size)
        self.bridger = Bridger(config)
        self.neck = Neck((*config.channels[:2], clip.embed), config.scales, width, clip.embed)
        self.decoder = Decoder(
            config.decoder_layers, width, config.decoder_heads, config.decoder_ffn, config.dropout
        )
        self.proj = Projector(clip.embed, width)
        self.stages = VitStages if clip.vit else ResNetStages
        scale_start(self.decoder, self.proj, config.branch_gain, config.kernel_gain)
        with torch.no_grad():
            # A ViT's zoom_out ends in BatchNorm and ReLU, which would undo a small
            # start or never leave zero.
            for layer in (*self.bridger.linear2, *(() if clip.vit else self.bridger.zoom_out)):
                layer.weight.mul_(config.branch_gain)

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what precedes the first exchange, for images (B, 3, S, S).

        That is the image tower's state after its first stage, and its map zoomed in,
        (B, d, S/16, S/16).
        """
        tower = self.stages(self.backbone.visual)
        x = tower.run(0, tower.start(images))
        return x, self.bridger.zoom_in[0](tower.grid(x))

    def segment(self, features: tuple[Tensor, Tensor], ids: Tensor, attention: Tensor) -> Tensor:
        """Return logits (B, 1, S/4, S/4).

        Padding is masked in the decoder alone. The Bridger lets it in, so a prediction
        depends on L (published).

        Args:
            features: what `encode_image` returned.
            ids: int64 (B, L), the sentences' word pieces.
            attention: int64 (B, L), 0 at padding.
        """
        return self.decode(*self.encode(features, ids), attention)

    def decode(self, maps: Maps, words: Tensor, state: Tensor, attention: Tensor) -> Tensor:
        """Return what `segment` returns, for what `encode` returned."""
        return self.proj(self.decoder(self.neck(maps, state), words, attention == 0), state)

    def encode(self, features: tuple[Tensor, Tensor], ids: Tensor) -> tuple[Maps, Tensor, Tensor]:
        """Return what both towers give when they are bridged.

        That is the three stages' maps, word features (B, L, D) and sentence states
        (B, E).
        """
        clip = self.backbone
        tower = self.stages(clip.visual)
        text = thirds(clip.transformer.resblocks)
        x, zoomed = features
        t = embed_words(clip, ids)
        maps = []
        last = None
        for stage in range(3):
            if stage > 0:
                x = tower.run(stage, x)
                zoomed = self.bridger.zoom_in[stage](tower.grid(x))
            t = run_words(text[stage], t)
            image_change, word_change, last = self.bridger.fuse(stage, zoomed, t, last)
            x, t = tower.add(x, image_change), t + word_change
            maps.append(tower.grid(x))
        return (maps[0], maps[1], tower.finish(x)), *read_words(clip, t, ids)

    def forward(self, images: Tensor, ids: Tensor, attention: Tensor) -> Tensor:
        """Return logits (B, 1, S/4, S/4) for images (B, 3, S, S) and sentences.

        `ids` and `attention` are as in `segment`.
        """
        return self.segment(self.encode_image(images), ids, attention)
