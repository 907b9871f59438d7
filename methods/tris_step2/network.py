"""The network of TRIS' second step.

CLIP's towers, pixel-word attention on three maps, and a decoder with four heads.
"""

from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from methods.backbones.clip import build_clip, encode_words, resnet_maps
from methods.tris_step2.config import TrisStep2Config

Maps: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


class PixelWordAttention(nn.Module):
    """Every pixel gathers what the words say about it, and passes on what it is times that.

    It is LAVT's module (CVPR 2022, section 3.2) with ReLU and learnt norms, as a
    residual. Padding is not masked (published).
    """

    def __init__(self, channels: int, text_channels: int) -> None:
        super().__init__()
        self.Wk, self.Wv = (nn.Conv1d(text_channels, channels, 1) for _ in range(2))
        self.Wq, self.Wm, self.Ww, self.Wo = (nn.Conv2d(channels, channels, 1) for _ in range(4))
        self.ins_q, self.ins_w = (nn.InstanceNorm2d(channels, affine=True) for _ in range(2))

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """Return x (B, C, h, w) after attending to words (B, T, L)."""
        query = self.ins_q(self.Wq(x)).flatten(2).transpose(1, 2)
        key, value = (project(words).transpose(1, 2) for project in (self.Wk, self.Wv))
        gathered = F.scaled_dot_product_attention(query, key, value)
        gathered = gathered.transpose(1, 2).unflatten(-1, x.shape[-2:])
        return x + F.relu(self.Wo(F.relu(self.Wm(x)) * self.ins_w(self.Ww(gathered))))


class ConvBlock(nn.Module):
    """A 3x3 convolution, followed by BatchNorm and PReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, h, w) for x (B, inputs, h, w)."""
        return self.relu(self.bn(self.conv(x)))


def _up(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class TrisStep2Network(nn.Module):
    """TRIS' second step. Parameter names are the published ones.

    Nothing reads the attention pool, the text projection and the logit scale of
    `backbone`, which published checkpoints hold.
    """

    def __init__(self, config: TrisStep2Config, vocabulary_size: int) -> None:
        super().__init__()
        clip = config.clip
        w = config.width
        self.backbone = build_clip(clip, vocabulary_size, grid_pool=False)
        for level in (2, 3, 4):
            inputs = clip.width * 2 ** (level + 1)
            self.add_module(f"attention{level}", PixelWordAttention(inputs, clip.text_width))
        for level in (1, 2, 3, 4):
            inputs, channels = clip.width * 2 ** (level + 1), w * 2 ** (level - 1)
            self.add_module(f"reduced_c{level}", ConvBlock(inputs, channels))
            self.add_module(f"output{level}", ConvBlock(channels, channels // 2))
            head = w // 2 if level < 3 else w
            final = nn.Sequential(ConvBlock(channels // 2, head), nn.Conv2d(head, 1, 1, bias=False))
            self.add_module(f"final_seg{level}", final)

    def encode_image(self, images: Tensor) -> Maps:
        """Return CLIP's maps c1 to c4 of images (B, 3, S, S), at strides 4 to 32.

        No stage of the tower sees a word.
        """
        return resnet_maps(self.backbone.visual, images)

    def segment(self, maps: Maps, ids: Tensor) -> Maps:
        """Return the logits of heads 1 to 4, for maps of `encode_image` and ids (B, L).

        They are (B, 1, S/4, S/4) twice, (B, 1, S/8, S/8) and (B, 1, S/16, S/16).
        """
        return self.decode(maps, self.encode_words(ids))

    def encode_words(self, ids: Tensor) -> Tensor:
        """Return CLIP's words (B, L, D), not projected, for ids (B, L)."""
        return encode_words(self.backbone, ids)[0]

    def decode(self, maps: Maps, words: Tensor) -> Maps:
        """Return what `segment` returns, for words (B, L, D) of `encode_words`."""
        words = words.transpose(1, 2)
        # The finest map meets no word.
        fused = [maps[0]]
        for level in (2, 3, 4):
            attention = self.get_submodule(f"attention{level}")
            fused.append(attention(maps[level - 1], words))
        d1, d2, d3, d4 = (
            self.get_submodule(f"reduced_c{level}")(x) for level, x in enumerate(fused, 1)
        )
        s4 = _up(self.output4(d4), d3)
        s3 = _up(self.output3(s4 + d3), d2)
        s2 = _up(self.output2(s3 + d2), d1)
        s1 = self.output1(s2 + d1)
        return self.final_seg1(s1), self.final_seg2(s2), self.final_seg3(s3), self.final_seg4(s4)

    def forward(self, images: Tensor, ids: Tensor) -> Maps:
        """Return the logits of the four heads for images (B, 3, S, S) and ids (B, L)."""
        return self.segment(self.encode_image(images), ids)
