"""CLIP towers from open_clip (OpenAI's parameter names), with the attention pool that keeps its grid (CRIS, ETRIS)."""

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from benchmark.errors import UserError
from methods.backbones.weights import copy_weights


class ClipConfig(BaseModel):
    """Dimensions of a CLIP with a ResNet image tower.

    Attributes:
        embed: joint embedding width E.
        layers: bottleneck blocks per stage.
        width: channels after the stem; stage outputs have 4, 8, 16 and 32 times as many.
        image_size: side the position table of the attention pool was made for (grid of image_size / 32).
        text_width, text_heads, text_layers: text transformer.
        context: rows of the text position table.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    embed: int
    layers: tuple[int, int, int, int]
    width: int
    image_size: int = 224
    text_width: int = 512
    text_heads: int = 8
    text_layers: int = 12
    context: int = 77


RN50 = ClipConfig(embed=1024, layers=(3, 4, 6, 3), width=64)
RN101 = ClipConfig(embed=512, layers=(3, 4, 23, 3), width=64)


class GridAttentionPool(nn.Module):
    """CLIP's attention pool, kept as a grid: self-attention over all cells, no mean token, nothing pooled, plus a projected
    shortcut (`connect`, which CLIP's weights do not hold). CRIS section 3.

    Input (B, C, h, w), output (B, E, h, w). The position table's first row (the mean token's) is dropped; the rest is
    resized to (h, w) bicubically.
    """

    def __init__(self, grid: int, channels: int, heads: int, embed: int) -> None:
        super().__init__()
        self.grid, self.heads = grid, heads
        self.positional_embedding = nn.Parameter(torch.randn(grid**2 + 1, channels) / channels**0.5)
        self.k_proj = nn.Linear(channels, channels)
        self.q_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, embed)
        self.connect = nn.Sequential(nn.Conv2d(channels, embed, 1, bias=False), nn.BatchNorm2d(embed))
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(layer.weight, std=channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, E, h, w) for x (B, C, h, w)."""
        height, width = x.shape[-2:]
        table = self.positional_embedding[1:].T.reshape(1, -1, self.grid, self.grid)
        position = F.interpolate(table.float(), (height, width), mode="bicubic", align_corners=False).to(x.dtype)
        tokens = (x + position).flatten(2).transpose(1, 2)
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        pooled = self.c_proj(attended).transpose(1, 2).unflatten(-1, (height, width))
        return F.relu(pooled + self.connect(x))


def build_clip(config: ClipConfig, vocabulary_size: int) -> CLIP:
    """Return open_clip's CLIP with a ResNet tower whose attention pool keeps its grid; randomly initialised."""
    heads = config.width * 32 // 64
    clip = CLIP(
        config.embed,
        CLIPVisionCfg(layers=config.layers, width=config.width, image_size=config.image_size),
        CLIPTextCfg(
            context_length=config.context,
            vocab_size=vocabulary_size,
            width=config.text_width,
            heads=config.text_heads,
            layers=config.text_layers,
        ),
        quick_gelu=True,
    )
    clip.visual.attnpool = GridAttentionPool(config.image_size // 32, config.width * 32, heads, config.embed)
    return clip


def load_pretrained(clip: CLIP, name: str) -> None:
    """Start `clip` from OpenAI's weights called `openai-<model>`, rounded to fp16 as published; the shortcut of the attention
    pool, which they lack, stays random.

    Raises:
        UserError: the weights cannot be read or downloaded, or have another size.
    """
    model = name.removeprefix("openai-")
    try:
        state = open_clip.create_model(f"{model}-quickgelu", pretrained="openai").state_dict()
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"OpenAI's CLIP {model} could not be loaded ({type(error).__name__}); allow access to huggingface.co or set"
            " HF_HOME to a cache that holds timm's clip weights."
        ) from error
    rounded = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    copy_weights(clip, rounded, name)


def resnet_stages(visual: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return v3 (B, 8w, S/8, S/8), v4 (B, 16w, S/16, S/16) and v5 (B, E, S/32, S/32) of images (B, 3, S, S), w = tower width."""
    v3 = visual.layer2(visual.layer1(visual.stem(images)))
    v4 = visual.layer3(v3)
    return v3, v4, visual.attnpool(visual.layer4(v4))


def causal_mask(length: int, like: Tensor) -> Tensor:
    """Return CLIP's additive causal mask (L, L) in the dtype and on the device of `like`."""
    return torch.full((length, length), float("-inf"), dtype=like.dtype, device=like.device).triu_(1)


def encode_words(clip: CLIP, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return word features (B, L, D), not projected, and the sentence state (B, E) at the end token, for ids (B, L).

    The end token is the largest id, so `argmax` finds its first occurrence. Padding runs through the causal stack, which
    cannot reach earlier positions.
    """
    x = clip.token_embedding(ids)
    x = x + clip.positional_embedding[: ids.shape[1]].to(x.dtype)
    mask = causal_mask(ids.shape[1], x)
    for block in clip.transformer.resblocks:
        x = block(x, attn_mask=mask)
    words = clip.ln_final(x)
    state = words[torch.arange(len(ids), device=ids.device), ids.argmax(1)] @ clip.text_projection
    return words, state
