"""CARIS' pixel decoder, in which image tokens of three levels and words attend to each other.

After the layers, two queries made of the words each give a map: the background's and
the referent's.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn

from methods.backbones.positions import sine_position
from methods.caris.deformable import DeformableAttention, Shapes, level_sides

LEVELS = 3
"""Number of maps whose cells the decoder reads, at strides 32, 16 and 8."""
# The published limit of attention scores. Half precision ends at 65,504.
_SCORE_LIMIT = 50_000


def cell_centers(height: int, width: int, like: Tensor) -> Tensor:
    """Return the centers (h * w, 2) of the cells of a map, row-major.

    They are x, then y, in (0, 1). Dtype and device are those of `like`.
    """
    y, x = (
        torch.arange(side, device=like.device, dtype=like.dtype).add(0.5) / side
        for side in (height, width)
    )
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)


class ConvNorm(nn.Module):
    """A convolution and GroupNorm of 32 groups."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
        self.gn = nn.GroupNorm(32, outputs)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if bias:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, h, w) for x (B, inputs, h, w)."""
        return self.gn(self.conv(x))


class Attention(nn.Module):
    """Multi-head attention inside a width of its own.

    Args:
        width: channels in and out.
        inner: channels of all heads together.
        heads: number of heads.
    """

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, width)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Return what every query attends to, (B, Q, C).

        Args:
            query: (B, Q, C).
            key: (B, K, C).
            value: (B, K, C).
            mask: bool (B, K), True where a key is read. None where all are.
        """
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        scores = scores.clamp(-_SCORE_LIMIT, _SCORE_LIMIT)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
        return self.out_proj((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """Words read the image and each other. The image reads the words, then itself.

    The image reads itself by deformable attention. Norms come after each part. Positions
    enter queries and keys, never values, and words have none.

    Args:
        width: channels of a token.
        inner: channels of all heads of an attention together.
        heads: number of heads.
        mlp: channels inside the MLPs.
        points: points that the deformable attention reads per head and level.
        deviation: standard deviation of the starting weights of the linear maps.
    """

    def __init__(
        self, width: int, inner: int, heads: int, mlp: int, points: int, deviation: float
    ) -> None:
        super().__init__()
        self.gamma_v2l, self.gamma_l2v = (nn.Parameter(torch.ones(1, 1, width)) for _ in range(2))
        self.v2l_cross_attn, self.lang_self_attn, self.l2v_cross_attn = (
            Attention(width, inner, heads) for _ in range(3)
        )
        self.lang_mlp, self.vis_mlp = (Mlp(width, mlp, act_layer=nn.ReLU) for _ in range(2))
        self.l_norm1, self.l_norm2, self.l_norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.v_norm1, self.v_norm2, self.v_norm3 = (nn.LayerNorm(width) for _ in range(3))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=deviation)
                nn.init.zeros_(module.bias)
        # This comes after the loop, since it has starting weights of its own.
        self.vis_self_attn = DeformableAttention(width, heads, LEVELS, points)

    def forward(
        self,
        pixels: Tensor,
        words: Tensor,
        mask: Tensor,
        position: Tensor,
        reference: Tensor,
        shapes: Shapes,
        sides: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return `pixels` (B, N, C) and `words` (B, L, C) after the layer.

        Args:
            pixels: (B, N, C), the cells of all levels.
            words: (B, L, C), prompts included.
            mask: bool (B, L), False at padding.
            position: (N, C), position codes of the cells.
            reference: (N, 2), the cells' centers.
            shapes: (h, w) of the levels.
            sides: (levels, 2), width and height of the levels.
        """
        gathered = self.v2l_cross_attn(words, pixels + position, pixels)
        words = self.l_norm1(words + self.gamma_v2l * gathered)
        words = self.l_norm2(words + self.lang_self_attn(words, words, words, mask))
        words = self.l_norm3(words + self.lang_mlp(words))
        # Under the published names norm 2 comes before norm 1.
        gathered = self.l2v_cross_attn(pixels + position, words, words, mask)
        pixels = self.v_norm2(pixels + self.gamma_l2v * gathered)
        gathered = self.vis_self_attn(pixels + position, pixels, reference, shapes, sides)
        pixels = self.v_norm1(pixels + gathered)
        return self.v_norm3(pixels + self.vis_mlp(pixels)), words


class PixelDecoder(nn.Module):
    """The decoder that turns Swin's maps and words into two-class logits.

    Args:
        channels: channels of Swin's four maps.
        text_channels: channels of a word.
        prompts: number of learned queries that stand for the background, which the
            sentence does not name.
        width: channels of every token in the decoder.
        layers: number of layers.
        heads: attention heads of a layer.
        inner: channels of all heads of an attention together.
        mlp: channels inside the MLPs.
        points: points that the deformable attention reads per head and level.
        deviation: standard deviation of the starting weights of the layers' linear maps.
    """

    def __init__(
        self,
        channels: Sequence[int],
        text_channels: int,
        prompts: int,
        *,
        width: int,
        layers: int,
        heads: int,
        inner: int,
        mlp: int,
        points: int,
        deviation: float,
    ) -> None:
        super().__init__()
        self.input_convs = nn.ModuleList(
            ConvNorm(inputs, width, 1, bias=True) for inputs in channels[:0:-1]
        )
        self.lateral_convs = nn.ModuleList([ConvNorm(channels[0], width, 1, bias=False)])
        self.output_convs = nn.ModuleList([ConvNorm(width, width, 3, bias=False)])
        self.level_encoding = nn.Embedding(LEVELS, width)
        self.vis_prompts = nn.Embedding(prompts, width)
        self.lang_in_linear = nn.Linear(text_channels, width)
        self.lang_in_norm = nn.LayerNorm(width)
        self.encoder = nn.ModuleList(
            DecoderLayer(width, inner, heads, mlp, points, deviation) for _ in range(layers)
        )
        # The published code never calls its own initialization of these and of
        # lang_in_linear, so they keep torch's.
        self.mask_feature = _three(lambda: nn.Conv2d(width, width, 1))
        self.lang_embed = _three(lambda: nn.Linear(width, width))

    def project(self, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the text-free part of the decoder.

        That is the map of stride 4, then the levels from coarse to fine, all
        (B, C, h, w).

        Args:
            maps: Swin's four maps (B, C_i, h_i, w_i), from fine to coarse.
        """
        fine, *coarser = maps
        pairs = zip(self.input_convs, reversed(coarser), strict=True)
        levels = [convolve(level) for convolve, level in pairs]
        return self.lateral_convs[0](fine), levels

    def forward(
        self, lateral: Tensor, levels: Sequence[Tensor], words: Tensor, attention: Tensor
    ) -> Tensor:
        """Return two-class logits (B, 2, h, w), the background's and the referent's.

        Args:
            lateral: (B, C, h, w), the map of stride 4 that `project` returned.
            levels: maps (B, C, h_i, w_i) of the coarser levels that `project` returned.
            words: (B, L, T), text states, [CLS] first.
            attention: int64 (B, L), 0 at padding.
        """
        shapes = [tuple(level.shape[-2:]) for level in levels]
        encodings = zip(shapes, levels, self.level_encoding.weight, strict=True)
        position = torch.cat(
            [
                sine_position(*shape, level.shape[1], level.device) + encoding
                for shape, level, encoding in encodings
            ]
        )
        reference = torch.cat([cell_centers(*shape, position) for shape in shapes])
        sides = level_sides(shapes, reference)
        pixels = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
        prompts = self.vis_prompts.weight.expand(len(words), -1, -1)
        length = words.shape[1]
        words = torch.cat([self.lang_in_norm(self.lang_in_linear(words)), prompts], 1)
        mask = F.pad(attention, (0, prompts.shape[1]), value=1).bool()
        for layer in self.encoder:
            pixels, words = layer(pixels, words, mask, position, reference, shapes, sides)
        # Only the finest level goes on, since it has attended to the coarser ones.
        finest = pixels[:, -math.prod(shapes[-1]) :].transpose(1, 2).unflatten(-1, shapes[-1])
        finest = F.interpolate(finest, lateral.shape[-2:], mode="bilinear", align_corners=False)
        features = self.mask_feature(self.output_convs[0](lateral + finest).relu())
        # The mean prompt asks for the background, and [CLS] asks for the referent.
        queries = self.lang_embed(torch.stack([words[:, length:].mean(1), words[:, 0]], 1))
        return torch.einsum("bqc,bchw->bqhw", queries, features)


def _three(layer: Callable[[], nn.Module]) -> nn.Sequential:
    return nn.Sequential(layer(), nn.ReLU(), layer(), nn.ReLU(), layer())
