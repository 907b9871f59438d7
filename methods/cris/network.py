"""CRIS' network, which is CLIP with a kept grid, a neck, a cross-modal decoder and a projector.

The sentence gates the neck, is read by the decoder word by word, and becomes the kernel
of the projector's convolution. Wang et al., CRIS: CLIP-Driven Referring Image
Segmentation, CVPR 2022.
"""

import abc
import math
from typing import TypeAlias

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor, nn

from methods.backbones.attention import attend
from methods.backbones.clip import build_clip, encode_words, resnet_stages
from methods.cris.config import CrisConfig

Maps: TypeAlias = tuple[Tensor, Tensor, Tensor]


def cbr(inputs: int, outputs: int, kernel: int, padding: int) -> nn.Sequential:
    """Return a convolution without bias, followed by BatchNorm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def up2(x: Tensor) -> Tensor:
    """Return x (B, C, h, w) at twice the size, bilinear, align_corners False."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def coordinates(x: Tensor) -> Tensor:
    """Return x (B, C, h, w) with two channels appended, (B, C + 2, h, w).

    They are the column, then the row, each from -1 to 1.
    """
    height, width = x.shape[-2:]
    shape = (len(x), 1, height, width)
    # Published: the grid is float32 whatever the network's dtype. A float64 grid moves
    # gradient norms by 1e-4.
    across = torch.linspace(-1, 1, width, device=x.device).expand(shape)
    down = torch.linspace(-1, 1, height, device=x.device)[:, None].expand(shape)
    return torch.cat([x, across.to(x.dtype), down.to(x.dtype)], 1)


class CoordConv(nn.Module):
    """A `cbr` that sees coordinates."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = cbr(inputs + 2, outputs, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, h, w) for x (B, inputs, h, w)."""
        return self.conv1(coordinates(x))


class Neck(nn.Module):
    """Fusion of three scales, the coarsest gated by the sentence state (CRIS, section 4).

    Args:
        inputs: channels of the three maps, from fine to coarse.
        widths: output channels of the three levels, from fine to coarse.
        state: channels of a sentence state.
    """

    def __init__(
        self, inputs: tuple[int, int, int], widths: tuple[int, int, int], state: int
    ) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.txt_proj = nn.Sequential(
            nn.Linear(state, coarse, bias=False), nn.BatchNorm1d(coarse), nn.ReLU()
        )
        self.f1_v_proj = cbr(inputs[2], coarse, 1, 0)
        self.norm_layer = nn.Sequential(nn.BatchNorm2d(coarse), nn.ReLU())
        self.f2_v_proj = cbr(inputs[1], middle, 3, 1)
        self.f2_cat = cbr(middle + coarse, middle, 1, 0)
        self.f3_v_proj = cbr(inputs[0], fine, 3, 1)
        self.f3_cat = cbr(fine + middle, middle, 1, 0)
        self.f4_proj5 = cbr(coarse, middle, 3, 1)
        self.f4_proj4 = cbr(middle, middle, 3, 1)
        self.f4_proj3 = cbr(middle, middle, 3, 1)
        self.aggr = cbr(3 * middle, middle, 1, 0)
        self.coordconv = nn.Sequential(CoordConv(middle, middle), cbr(middle, middle, 3, 1))

    def project(self, maps: Maps) -> Maps:
        """Return the text-free projections of the three maps, which an image's sentences share.

        They are (B, fine, S/16, S/16), (B, middle, S/16, S/16) and
        (B, coarse, S/32, S/32).
        """
        v3, v4, v5 = maps
        return self.down(self.f3_v_proj(v3)), self.f2_v_proj(v4), self.f1_v_proj(v5)

    def down(self, x: Tensor) -> Tensor:
        """Return the finest map at half its size, so that it fits the middle one."""
        return F.avg_pool2d(x, 2, 2)

    def up(self, x: Tensor) -> Tensor:
        """Return the coarsest map at twice its size, so that it fits the middle one."""
        return up2(x)

    def forward(self, projected: Maps, state: Tensor) -> Tensor:
        """Return (B, middle, S/16, S/16) for projected maps and sentence states (B, E)."""
        p3, p4, p5 = projected
        f5 = self.norm_layer(p5 * self.txt_proj(state)[:, :, None, None])
        f4 = self.f2_cat(torch.cat([p4, self.up(f5)], 1))
        f3 = self.f3_cat(torch.cat([p3, f4], 1))
        q5, q4, q3 = self.f4_proj5(f5), self.f4_proj4(f4), self.f4_proj3(f3)
        return self.coordconv(self.aggr(torch.cat([q3, q4, self.up(q5)], 1)))


def sinusoid(positions: Tensor, width: int) -> Tensor:
    """Return position codes (N, width) of integer positions (N,).

    Sine and cosine alternate, at frequencies 10000^(-2k/width).
    """
    even = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32)
    # Published: the power is computed as this exponential in float32. Written as a power, it
    # rounds otherwise, which moves the gradients of RN101 by 5e-5.
    rate = torch.exp(even * -(math.log(10000) / width))
    angle = positions.float()[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


def image_codes(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Return position codes (h * w, channels) of a map, row-major.

    The first half of the channels codes the column x, the second the row y.
    """
    half = channels // 2
    across = sinusoid(torch.arange(width, device=device), half).expand(height, width, -1)
    down = sinusoid(torch.arange(height, device=device), half)[:, None].expand(height, width, -1)
    return torch.cat([across, down], -1).flatten(0, 1)


class DecoderLayer(nn.Module):
    """Self-attention, attention to the words and a feed-forward net.

    Each attention has a norm before and one after it.
    """

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.self_attn_norm = nn.LayerNorm(width)
        self.cross_attn_norm = nn.LayerNorm(width)
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.ffn = nn.Sequential(
            nn.Linear(width, ffn),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.LayerNorm(ffn),
            nn.Linear(ffn, width),
        )
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout1, self.dropout2, self.dropout3 = (nn.Dropout(dropout) for _ in range(3))

    def forward(
        self, v: Tensor, words: Tensor, image_code: Tensor, text_code: Tensor, padding: Tensor
    ) -> Tensor:
        """Return v (B, h * w, D) after the layer.

        Position codes enter queries and keys, never values.

        Args:
            v: (B, h * w, D), the image's cells.
            words: (B, L, D).
            image_code: (h * w, D), position codes of the cells.
            text_code: (L, D), position codes of the words.
            padding: bool (B, L), True where there is no word.
        """
        y = self.norm1(v)
        attended = attend(self.self_attn, y + image_code, y + image_code, y)
        v = v + self.dropout1(self.self_attn_norm(attended))
        y = self.norm2(v)
        attended = attend(
            self.multihead_attn, y + image_code, words + text_code, words, ~padding[:, None, None]
        )
        v = v + self.dropout2(self.cross_attn_norm(attended))
        return v + self.dropout3(self.ffn(self.norm3(v)))


class Decoder(nn.Module):
    """The cross-modal decoder (CRIS, section 4)."""

    def __init__(self, layers: int, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, words: Tensor, padding: Tensor) -> Tensor:
        """Return (B, D, h, w).

        Args:
            x: (B, D, h, w), the neck's map.
            words: (B, L, D), word features.
            padding: bool (B, L), True where there is no word.
        """
        height, width = x.shape[-2:]
        image_code = image_codes(height, width, x.shape[1], x.device).to(x.dtype)
        order = torch.arange(words.shape[1], device=x.device)
        text_code = sinusoid(order, words.shape[2]).to(x.dtype)
        v = x.flatten(2).transpose(1, 2)
        for layer in self.layers:
            v = layer(v, words, image_code, text_code, padding)
        return self.norm(v).transpose(1, 2).unflatten(-1, (height, width))


class Projector(nn.Module):
    """A 3x3 convolution per sample whose kernel and bias come from its sentence (section 4)."""

    def __init__(self, state: int, width: int) -> None:
        super().__init__()
        self.vis = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            cbr(width, width, 3, 1),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            cbr(width, width // 2, 3, 1),
            nn.Conv2d(width // 2, width // 2, 1),
        )
        self.txt = nn.Linear(state, width // 2 * 9 + 1)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Return logits (B, 1, 4h, 4w) for x (B, D, h, w) and sentence states (B, E)."""
        x = self.vis(x)
        batch, channels, height, width = x.shape
        dynamic = self.txt(state)
        kernel, bias = dynamic[:, :-1].reshape(batch, channels, 3, 3), dynamic[:, -1]
        # One convolution with a group per sample does what a loop over samples would do.
        x = x.reshape(1, batch * channels, height, width)
        return F.conv2d(x, kernel, bias, padding=1, groups=batch).transpose(0, 1)


@torch.no_grad()
def scale_start(decoder: Decoder, proj: Projector, branch_gain: float, kernel_gain: float) -> None:
    """Scale the starting weights of the decoder's attentions and of the sentence's kernel.

    A gain of 1 is published.
    """
    proj.txt.weight.mul_(kernel_gain)
    for layer in decoder.layers:
        layer.self_attn_norm.weight.mul_(branch_gain)
        layer.cross_attn_norm.weight.mul_(branch_gain)


class ClipSegmenter(nn.Module, abc.ABC):
    """CLIP's towers with CRIS' neck, decoder and projector behind them.

    CRIS and CM-MaskSD differ in the image tower and in the neck that fits its maps.

    Args:
        config: size of the network.
        backbone: both towers.
        neck: fits the tower's maps.

    Raises:
        ValueError: the neck's middle width is not that of the text tower.
    """

    def __init__(self, config: CrisConfig, backbone: CLIP, neck: Neck) -> None:
        super().__init__()
        clip, middle = config.clip, config.neck[1]
        if clip.text_width != middle:
            raise ValueError(
                "the decoder attends to unprojected words: text_width must equal neck[1]"
            )
        self.backbone = backbone
        self.neck = neck
        self.decoder = Decoder(
            config.decoder_layers, middle, config.decoder_heads, config.decoder_ffn, config.dropout
        )
        self.proj = Projector(clip.embed, middle)
        scale_start(self.decoder, self.proj, config.branch_gain, config.kernel_gain)

    @abc.abstractmethod
    def encode_image(self, images: Tensor) -> Maps:
        """Return the neck's text-free maps for images (B, 3, S, S)."""

    def encode_words(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return words (B, L, D), not projected, and sentence states (B, E) for ids (B, L)."""
        return encode_words(self.backbone, ids)

    def segment(self, maps: Maps, ids: Tensor, attention: Tensor) -> Tensor:
        """Return logits (B, 1, 4h, 4w), where h and w are the sides of the neck's map.

        Args:
            maps: what `encode_image` returned.
            ids: int64 (B, L), the sentences' word pieces.
            attention: int64 (B, L), 0 at padding.
        """
        return self.decode(maps, *self.encode_words(ids), attention)

    def decode(self, maps: Maps, words: Tensor, state: Tensor, attention: Tensor) -> Tensor:
        """Return what `segment` returns, for words and states of `encode_words`."""
        # The decoder reads words before CLIP's projection, the neck and the kernel the
        # projected sentence state (published).
        fused = self.neck(maps, state)
        return self.proj(self.decoder(fused, words, attention == 0), state)

    def forward(self, images: Tensor, ids: Tensor, attention: Tensor) -> Tensor:
        """Return what `segment` returns, for images (B, 3, S, S) and sentences.

        `ids` and `attention` are as in `segment`.
        """
        return self.segment(self.encode_image(images), ids, attention)


class CrisNetwork(ClipSegmenter):
    """CRIS (CVPR 2022), figure 2. Parameter names are the published ones.

    Its logits are at a quarter of the input, (B, 1, S/4, S/4).

    Args:
        config: size of the network.
        vocabulary_size: number of word pieces that CLIP knows.

    Raises:
        ValueError: the neck's middle width is not that of the text tower.
    """

    def __init__(self, config: CrisConfig, vocabulary_size: int) -> None:
        clip = config.clip
        backbone = build_clip(clip, vocabulary_size)
        neck = Neck((clip.width * 8, clip.width * 16, clip.embed), config.neck, clip.embed)
        super().__init__(config, backbone, neck)

    def stages(self, images: Tensor) -> Maps:
        """Return the image tower's maps v3, v4 and v5 of images (B, 3, S, S)."""
        return resnet_stages(self.backbone.visual, images)

    def encode_image(self, images: Tensor) -> Maps:
        """Return the neck's text-free maps for images (B, 3, S, S)."""
        return self.neck.project(self.stages(images))
