"""ETRIS' network: a small Bridger between CLIP's two towers, a sentence-gated neck, and CRIS' decoder and projector."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.backbones.clip import (
    RN50,
    RN101,
    VIT_B16,
    ClipConfig,
    ResNetStages,
    VitStages,
    build_clip,
    embed_words,
    read_words,
    run_words,
    thirds,
)
from methods.config import Config
from methods.cris.network import CoordConv, Decoder, Maps, Projector, cbr, scale_start

_PUBLISHED = {"RN50": RN50, "RN101": RN101, "ViT-B/16": VIT_B16}
Triple = tuple[int, int, int]


class EtrisConfig(Config):
    """Size of an ETRIS network. Neck and decoder have the text tower's width, since the decoder attends to unprojected words.

    Attributes:
        clip: dimensions of both towers; each is divided into three stages, so a transformer's depth is a multiple of 3.
        bridger_width, bridger_heads: the Bridger's tokens (64 published) and attentions (4 for a ResNet, 8 for a ViT).
        decoder_layers, decoder_heads, decoder_ffn: CRIS' decoder.
        dropout: of the decoder and of a ResNet's Bridger; CLIP has none.
        branch_gain, kernel_gain: starting weights of the decoder and the projector as in CRIS; 1 is published. branch_gain also
            scales what the Bridger adds to the towers.
    """

    clip: ClipConfig
    bridger_width: int = 64
    bridger_heads: int = 4
    decoder_layers: int = 3
    decoder_heads: int = 8
    decoder_ffn: int = 512
    dropout: float = 0.1
    branch_gain: float = 1.0
    kernel_gain: float = 1.0

    @classmethod
    def published(cls, network: str, size: int = 416, max_length: int = 17) -> "EtrisConfig":
        """Return the published configuration of `RN50`, `RN101` or `ViT-B/16` (whose position table is made for `size`)."""
        clip, pretrained = _PUBLISHED[network], f"openai-{network.replace('/', '-')}"
        if clip.vit:
            clip = clip.model_copy(update={"image_size": size})
        return cls(
            size=size, max_length=max_length, clip=clip, bridger_heads=8 if clip.vit else 4, pretrained=pretrained
        )

    @property
    def channels(self) -> Triple:
        """Channels of the image tower's three stages."""
        width = self.clip.width
        return (width,) * 3 if self.clip.vit else (8 * width, 16 * width, 32 * width)

    @property
    def scales(self) -> Triple:
        """What brings the three stages' maps to stride 16: down, as it is, up; a ViT's are there."""
        return (1, 1, 1) if self.clip.vit else (2, 1, 2)


def tokens(x: Tensor) -> Tensor:
    """Return a map (B, C, h, w) as tokens (B, h * w, C)."""
    return x.flatten(2).transpose(1, 2)


def rescale(inputs: int, outputs: int, scale: int, up: bool) -> nn.Conv2d | nn.ConvTranspose2d:
    """Return a convolution without bias whose kernel and stride are `scale`: transposed where it goes up."""
    convolution = nn.ConvTranspose2d if up else nn.Conv2d
    return convolution(inputs, outputs, scale, scale, bias=False)


def normed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """Return the convolution with BatchNorm and ReLU behind it."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())


class Interactor(nn.Module):
    """A transformer decoder layer, norms last: self-attention, attention to the other modality, feed-forward (ResNet towers).

    No position codes and no padding mask: every word sees every word, padding included.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Return x (B, N, d) after attending to `other` (B, M, d)."""
        x = self.norm1(x + self.dropout(self.self_attn(x, x, x, need_weights=False)[0]))
        x = self.norm2(x + self.dropout(self.multihead_attn(x, other, other, need_weights=False)[0]))
        return self.norm3(x + self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x))))))


class InteractorT(nn.Module):
    """Attention to the other modality as a gate, without residual, norm or feed-forward (ViT towers)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Return x (B, N, d) times what it attends to in `other` (B, M, d)."""
        return x * self.multihead_attn(x, other, other, need_weights=False)[0]


class Bridger(nn.Module):
    """Exchange between the towers after each of three stages, at stride 16 and in few channels. ETRIS section 3."""

    def __init__(self, config: EtrisConfig) -> None:
        super().__init__()
        width, text, vit = config.bridger_width, config.clip.text_width, config.clip.vit
        sizes = list(zip(config.channels, config.scales, strict=True))
        # Only the last stage is finer at stride 16 than in its tower.
        zoom_in = [rescale(channels, width, scale, up=stage == 2) for stage, (channels, scale) in enumerate(sizes)]
        zoom_out = [rescale(width, channels, scale, up=stage < 2) for stage, (channels, scale) in enumerate(sizes)]
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
        """Return what a stage adds to the image and to the words, and what it carries to the next stage.

        Args:
            stage: 0, 1 or 2.
            zoomed: the image tower's map, zoomed in (B, d, h, w).
            t: states of the text tower (B, L, D).
            last: what the stage before carried (image and word tokens); None at stage 0.
        """
        z, u = tokens(zoomed), self.linear1[stage](t)
        if last is not None:
            z, u = self.ln_v[stage - 1](z + last[0]), self.ln_t[stage - 1](u + last[1])
        # Both sides see the other as it was before this fusion, and that is also what is carried on.
        fused_z, fused_u = self.fusion_v[stage](z, u), self.fusion_t[stage](u, z)
        change = self.zoom_out[stage](fused_z.transpose(1, 2).unflatten(-1, zoomed.shape[-2:]))
        return change, self.linear2[stage](fused_u), (z, u)


class Gate(nn.Module):
    """The neck's attention of a map to the sentence state. ETRIS section 4.

    With a single key every attention weight is 1, whatever the query and the number of heads: what remains is a gate per
    channel. Query and key weights are kept and get a zero gradient, as published.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, 1)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Return x (B, D, h, w) times the gate of the states (B, D)."""
        attention = self.multihead_attn
        value = F.linear(state, attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2])
        return x * attention.out_proj(value)[:, :, None, None]


class Neck(nn.Module):
    """Three maps at stride 16, gated by the sentence and merged. ETRIS section 4."""

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
    """ETRIS (ICCV 2023), figure 2; parameter names are the published ones."""

    def __init__(self, config: EtrisConfig, vocabulary_size: int) -> None:
        super().__init__()
        clip, width = config.clip, config.clip.text_width
        if clip.text_layers % 3 or (clip.vit and clip.layers % 3):
            raise ValueError("the Bridger has three stages: a transformer's depth must be a multiple of 3")
        self.backbone = build_clip(clip, vocabulary_size)
        self.bridger = Bridger(config)
        self.neck = Neck((*config.channels[:2], clip.embed), config.scales, width, clip.embed)
        self.decoder = Decoder(config.decoder_layers, width, config.decoder_heads, config.decoder_ffn, config.dropout)
        self.proj = Projector(clip.embed, width)
        self.stages = VitStages if clip.vit else ResNetStages
        scale_start(self.decoder, self.proj, config.branch_gain, config.kernel_gain)
        with torch.no_grad():
            # A ViT's zoom_out ends in BatchNorm and ReLU, which would undo a small start or never leave zero.
            for layer in (*self.bridger.linear2, *(() if clip.vit else self.bridger.zoom_out)):
                layer.weight.mul_(config.branch_gain)

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what precedes the first exchange: the image tower's state after its first stage, and its map zoomed in
        (B, d, S/16, S/16), for images (B, 3, S, S)."""
        tower = self.stages(self.backbone.visual)
        x = tower.run(0, tower.start(images))
        return x, self.bridger.zoom_in[0](tower.grid(x))

    def segment(self, features: tuple[Tensor, Tensor], ids: Tensor, attention: Tensor) -> Tensor:
        """Return logits (B, 1, S/4, S/4) for features of `encode_image`, ids (B, L) and attention (B, L).

        Padding is masked in the decoder alone; the Bridger lets it in, so a prediction depends on L.
        """
        maps, words, state = self.encode(features, ids)
        return self.proj(self.decoder(self.neck(maps, state), words, attention == 0), state)

    def encode(self, features: tuple[Tensor, Tensor], ids: Tensor) -> tuple[Maps, Tensor, Tensor]:
        """Return the three stages' maps, word features (B, L, D) and sentence states (B, E): both towers, bridged."""
        clip = self.backbone
        tower, text = self.stages(clip.visual), thirds(clip.transformer.resblocks)
        (x, zoomed), t = features, embed_words(clip, ids)
        maps, last = [], None
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
        """Return logits (B, 1, S/4, S/4) for images (B, 3, S, S), ids (B, L) and attention (B, L), 0 where padding."""
        return self.segment(self.encode_image(images), ids, attention)
