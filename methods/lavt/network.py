"""LAVT's network, a Swin Transformer with words in every stage and a light decoder.

Yang et al., LAVT: Language-Aware Vision Transformer for Referring Image Segmentation,
CVPR 2022. Module names are those of the published checkpoints.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.backbones import bert
from methods.backbones.swin import Swin
from methods.lavt.config import LavtConfig


class WordAttention(nn.Module):
    """Every pixel gathers what the words say about it (LAVT, section 3.2)."""

    def __init__(self, channels: int, text_channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.f_query = nn.Sequential(nn.Conv1d(channels, channels, 1), nn.InstanceNorm1d(channels))
        self.f_key = nn.Sequential(nn.Conv1d(text_channels, channels, 1))
        self.f_value = nn.Sequential(nn.Conv1d(text_channels, channels, 1))
        self.W = nn.Sequential(nn.Conv1d(channels, channels, 1), nn.InstanceNorm1d(channels))

    def forward(self, pixels: Tensor, words: Tensor, attention: Tensor) -> Tensor:
        """Return what every pixel gathered, (B, C, N).

        Args:
            pixels: (B, C, N).
            words: (B, T, L).
            attention: (B, 1, L), 1 at words.
        """
        query = self.f_query(pixels)
        key, value = self.f_key(words) * attention, self.f_value(words) * attention
        query, key, value = (
            x.unflatten(1, (self.heads, -1)).transpose(2, 3) for x in (query, key, value)
        )
        # Published: padding is pushed down by a finite 10,000, not by minus infinity.
        bias = (1e4 * attention - 1e4)[:, None]
        # The published scale is that of all channels, also with several heads.
        scale = pixels.shape[1] ** -0.5
        gathered = F.scaled_dot_product_attention(query, key, value, bias, scale=scale)
        return self.W(gathered.transpose(2, 3).flatten(1, 2))


class PixelWordFusion(nn.Module):
    """The pixel-word attention module (PWAM) of LAVT, section 3.2.

    What the words say about a pixel is multiplied by what the pixel is.
    """

    def __init__(self, channels: int, text_channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.vis_project = nn.Sequential(
            nn.Conv1d(channels, channels, 1), nn.GELU(), nn.Dropout(dropout)
        )
        self.image_lang_att = WordAttention(channels, text_channels, heads)
        self.project_mm = nn.Sequential(
            nn.Conv1d(channels, channels, 1), nn.GELU(), nn.Dropout(dropout)
        )

    def forward(self, pixels: Tensor, words: Tensor, attention: Tensor) -> Tensor:
        """Return the fused residual (B, C, N).

        Args:
            pixels: (B, C, N).
            words: (B, T, L).
            attention: (B, 1, L), 1 at words.
        """
        gathered = self.image_lang_att(pixels, words, attention)
        return self.project_mm(self.vis_project(pixels) * gathered)


class LanguageAwareSwin(Swin):
    """Swin whose stages pass on x + gate(r) * r, where r is the fused residual (section 3.3)."""

    def __init__(self, config: LavtConfig) -> None:
        super().__init__(config.swin, config.size)
        sizes = zip(self.layers, config.swin.channels, config.pwam_heads, strict=True)
        for stage, channels, heads in sizes:
            stage.fusion = PixelWordFusion(
                channels, config.bert.hidden, heads, config.fusion_dropout
            )
            stage.res_gate = nn.Sequential(
                nn.Linear(channels, channels, bias=False),
                nn.ReLU(),
                nn.Linear(channels, channels, bias=False),
                nn.Tanh(),
            )
        self.reset()

    def forward(self, images: Tensor, words: Tensor, attention: Tensor) -> list[Tensor]:
        """Return the four normalized residuals (B, C_i, h_i, w_i) at strides 4 to 32.

        Args:
            images: (B, 3, H, W).
            words: (B, L, T), word states.
            attention: int64 (B, L), 0 at padding.
        """
        words = words.transpose(1, 2)
        attention = attention[:, None].to(words.dtype)
        x = self.patch_embed(images)
        maps = []
        for index, stage in enumerate(self.layers):
            x = stage.blocks(x)
            residual = stage.fusion(x.flatten(1, 2).transpose(1, 2), words, attention)
            residual = residual.transpose(1, 2).unflatten(1, x.shape[1:3])
            # The decoder sees the residual alone, neither the pixels nor the gate
            # (published).
            maps.append(getattr(self, f"norm{index}")(residual).permute(0, 3, 1, 2))
            # The last stage's gate exists and is in the optimizer, but nothing reads it
            # (published).
            if index < 3:
                x = stage.downsample(x + stage.res_gate(residual) * residual)
        return maps


class Decoder(nn.Module):
    """Decoder from coarse to fine (section 3.4).

    At every level it upsamples, concatenates the finer map and convolves twice.
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        inputs = channels[3]
        for level in (4, 3, 2):
            inputs += channels[level - 2]
            self.add_module(f"conv1_{level}", nn.Conv2d(inputs, width, 3, padding=1, bias=False))
            self.add_module(f"bn1_{level}", nn.BatchNorm2d(width))
            self.add_module(f"conv2_{level}", nn.Conv2d(width, width, 3, padding=1, bias=False))
            self.add_module(f"bn2_{level}", nn.BatchNorm2d(width))
            inputs = width
        self.conv1_1 = nn.Conv2d(width, 2, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return two-class logits (B, 2, h, w) at the stride of the finest map.

        Args:
            maps: the four maps (B, C_i, h_i, w_i), from fine to coarse.
        """
        *finer, y = maps
        for level in (4, 3, 2):
            skip = finer[level - 2]
            y = F.interpolate(y, skip.shape[-2:], mode="bilinear", align_corners=True)
            y = torch.cat([y, skip], 1)
            for half in (1, 2):
                convolution = getattr(self, f"conv{half}_{level}")
                norm = getattr(self, f"bn{half}_{level}")
                y = norm(convolution(y)).relu()
        return self.conv1_1(y)


class LavtNetwork(nn.Module):
    """BERT, the language-aware Swin and the decoder.

    Args:
        config: size of the network.
        vocabulary_size: number of word pieces that BERT knows.
    """

    def __init__(self, config: LavtConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.text_encoder = bert.build(config.bert, vocabulary_size)
        self.backbone = LanguageAwareSwin(config)
        self.classifier = Decoder(config.swin.channels, config.decoder_width)

    def forward(self, images: Tensor, ids: Tensor, attention: Tensor) -> Tensor:
        """Return two-class logits (B, 2, H/4, W/4), the background's and the referent's.

        Args:
            images: (B, 3, H, W), normalized.
            ids: int64 (B, L), the sentences' word pieces.
            attention: int64 (B, L), 0 at padding.
        """
        return self.segment(images, self.encode_words(ids, attention), attention)

    def encode_words(self, ids: Tensor, attention: Tensor) -> Tensor:
        """Return BERT's states (B, L, T) for ids and attention int64 (B, L)."""
        return bert.encode(self.text_encoder, self.text_encoder.embeddings(ids), attention)

    def segment(self, images: Tensor, words: Tensor, attention: Tensor) -> Tensor:
        """Return what `forward` returns, for word states (B, L, T) of any origin."""
        return self.classifier(self.backbone(images, words, attention))
