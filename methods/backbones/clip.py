"""CLIP towers from open_clip (OpenAI's parameter names): a ViT, or a ResNet whose attention pool may keep its grid."""

import math
from collections.abc import Iterable

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from benchmark.base.pretrained import local, obtaining

VIT_PATCH = 16


class ClipConfig(BaseModel):
    """Dimensions of a CLIP.

    Attributes:
        embed: joint embedding width E.
        layers: bottleneck blocks of the four stages of a ResNet, or blocks of a ViT with patches of 16 pixels.
        width: a ResNet's channels after the stem (stage outputs have 4, 8, 16 and 32 times as many), or a ViT's.
        image_size: side the position table was made for: a grid of image_size / 32 (ResNet, any input fits) or / 16 (ViT,
            whose input has this very size).
        text_width, text_heads, text_layers: text transformer.
        context: rows of the text position table.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    embed: int
    layers: tuple[int, int, int, int] | int
    width: int
    image_size: int = 224
    text_width: int = 512
    text_heads: int = 8
    text_layers: int = 12
    context: int = 77

    @property
    def vit(self) -> bool:
        """Whether the image tower is a ViT."""
        return isinstance(self.layers, int)


RN50 = ClipConfig(embed=1024, layers=(3, 4, 6, 3), width=64)
RN101 = ClipConfig(embed=512, layers=(3, 4, 23, 3), width=64)
VIT_B16 = ClipConfig(embed=512, layers=12, width=768)
# Two that nobody published, for networks trained from scratch: on one GPU, and on a CPU in a minute.
SMALL = ClipConfig(embed=512, layers=(2, 2, 3, 2), width=32, text_width=256, text_heads=4, text_layers=6, context=32)
TINY = ClipConfig(
    embed=128, layers=(1, 1, 1, 1), width=12, image_size=96, text_width=64, text_heads=4, text_layers=3, context=20
)


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


def build_clip(config: ClipConfig, vocabulary_size: int, patch: int = VIT_PATCH, grid_pool: bool = True) -> CLIP:
    """Return open_clip's CLIP, randomly initialised.

    Args:
        config: its dimensions. vocabulary_size: word pieces that it knows.
        patch: side of a ViT's patches in pixels.
        grid_pool: whether the attention pool of a ResNet tower keeps its grid, or is CLIP's own.
    """
    clip = CLIP(
        config.embed,
        CLIPVisionCfg(layers=config.layers, width=config.width, image_size=config.image_size, patch_size=patch),
        CLIPTextCfg(
            context_length=config.context,
            vocab_size=vocabulary_size,
            width=config.text_width,
            heads=config.text_heads,
            layers=config.text_layers,
        ),
        quick_gelu=True,
    )
    if grid_pool and not config.vit:
        channels = config.width * 32
        clip.visual.attnpool = GridAttentionPool(config.image_size // 32, channels, channels // 64, config.embed)
    return clip


def resize_position_table(table: Tensor, side: int) -> Tensor:
    """Return a ViT's position table (1 + g^2, C), float32, for a grid of `side`: (1 + side^2, C), the class token's row first.

    Bicubic with align_corners False and, other than open_clip's `resize_pos_embed`, no antialiasing (ETRIS section 2).
    """
    before = math.isqrt(len(table) - 1)
    grid = table[1:].T.reshape(1, -1, before, before)
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], grid[0].flatten(1).T])


def starting_weights(name: str) -> dict[str, Tensor]:
    """Return OpenAI's weights called `openai-<model>` under the names of `build_clip`, rounded to fp16 as published, from a
    local file, the cache or the hub.

    The shortcut of the attention pool is not among them, and a ViT's position table has the size it was trained at.

    Raises:
        UserError: they cannot be had or have another layout.
    """
    model = name.removeprefix("openai-")
    source = open_clip.get_pretrained_cfg(model, "openai")
    # Not OpenAI's own .pt: a TorchScript archive, which holds code.
    address = f"https://huggingface.co/{source['hf_hub'].rstrip('/')} (open_clip_model.safetensors)"
    with obtaining(f"the weights '{name}'", address, f"{model}.safetensors"):
        path = local(f"{model}.safetensors", f"{model}/open_clip_model.safetensors", f"{model}.pt")
        clip = open_clip.create_model(f"{model}-quickgelu", pretrained=str(path) if path else "openai")
        return {key: value.half().float() for key, value in clip.state_dict().items() if value.is_floating_point()}


def resnet_stages(visual: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return v3 (B, 8w, S/8, S/8), v4 (B, 16w, S/16, S/16) and v5 (B, E, S/32, S/32) of images (B, 3, S, S), w = tower width."""
    v3 = visual.layer2(visual.layer1(visual.stem(images)))
    v4 = visual.layer3(v3)
    return v3, v4, visual.attnpool(visual.layer4(v4))


def resnet_maps(visual: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return c1 to c4, (B, 4w, S/4, S/4) to (B, 32w, S/32, S/32), of images (B, 3, S, S), w = tower width; nothing is pooled."""
    c1 = visual.layer1(visual.stem(images))
    c2 = visual.layer2(c1)
    c3 = visual.layer3(c2)
    return c1, c2, c3, visual.layer4(c3)


class ResNetStages:
    """A ResNet tower stage by stage, for a caller that adds to the maps in between (ETRIS). Its state is a map."""

    def __init__(self, visual: nn.Module) -> None:
        self.visual = visual
        self.stages = (visual.layer2, visual.layer3, visual.layer4)

    def start(self, images: Tensor) -> Tensor:
        """Return the state before the first of the three stages, for images (B, 3, S, S)."""
        return self.visual.layer1(self.visual.stem(images))

    def run(self, stage: int, x: Tensor) -> Tensor:
        """Return the state after a stage."""
        return self.stages[stage](x)

    def grid(self, x: Tensor) -> Tensor:
        """Return the map (B, C, h, w) in a state."""
        return x

    def add(self, x: Tensor, change: Tensor) -> Tensor:
        """Return the state with `change` (B, C, h, w) added to its map."""
        return x + change

    def finish(self, x: Tensor) -> Tensor:
        """Return the joint embedding (B, E, S/32, S/32) of the last state."""
        return self.visual.attnpool(x)


class VitStages:
    """A ViT tower in three stages of as many blocks, like `ResNetStages`. Its state is the tokens, the class token first."""

    def __init__(self, visual: nn.Module) -> None:
        self.visual, self.blocks = visual, thirds(visual.transformer.resblocks)

    def start(self, images: Tensor) -> Tensor:
        """Return the tokens (B, 1 + g^2, C) before the first stage, for images (B, 3, S, S)."""
        patches = self.visual.conv1(images).flatten(2).transpose(1, 2)
        first = self.visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        x = torch.cat([first, patches], 1)
        return self.visual.ln_pre(x + self.visual.positional_embedding.to(x.dtype))

    def run(self, stage: int, x: Tensor) -> Tensor:
        """Return the tokens after a stage."""
        for block in self.blocks[stage]:
            x = block(x)
        return x

    def grid(self, x: Tensor) -> Tensor:
        """Return the patch tokens as a map (B, C, g, g)."""
        side = math.isqrt(x.shape[1] - 1)
        return x[:, 1:].transpose(1, 2).unflatten(-1, (side, side))

    def add(self, x: Tensor, change: Tensor) -> Tensor:
        """Return the tokens with `change` (B, C, g, g) added to the patches; the class token stays."""
        return torch.cat([x[:, :1], x[:, 1:] + change.flatten(2).transpose(1, 2)], 1)

    def finish(self, x: Tensor) -> Tensor:
        """Return the joint embedding (B, E, g, g) of the patches."""
        return self.grid(self.visual.ln_post(x) @ self.visual.proj)


def thirds(blocks: nn.ModuleList) -> tuple[nn.ModuleList, ...]:
    """Return `blocks` in three runs of as many."""
    size = len(blocks) // 3
    return blocks[:size], blocks[size : 2 * size], blocks[2 * size :]


def causal_mask(length: int, like: Tensor) -> Tensor:
    """Return CLIP's additive causal mask (L, L) in the dtype and on the device of `like`."""
    return torch.full((length, length), float("-inf"), dtype=like.dtype, device=like.device).triu_(1)


def embed_words(clip: CLIP, ids: Tensor) -> Tensor:
    """Return what enters the text blocks, (B, L, D), for ids (B, L)."""
    x = clip.token_embedding(ids)
    return x + clip.positional_embedding[: ids.shape[1]].to(x.dtype)


def run_words(blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Return x (B, L, D) after causal text blocks.

    Padding runs through the causal stack, which cannot reach earlier positions.
    """
    mask = causal_mask(x.shape[1], x)
    for block in blocks:
        x = block(x, attn_mask=mask)
    return x


def read_words(clip: CLIP, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return word features (B, L, D), not projected, and the sentence state (B, E) at the end token, for the last text
    block's output x (B, L, D).

    The end token is the largest id, so `argmax` finds its first occurrence.
    """
    words = clip.ln_final(x)
    state = words[torch.arange(len(ids), device=ids.device), ids.argmax(1)] @ clip.text_projection
    return words, state


def encode_words(clip: CLIP, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return word features (B, L, D), not projected, and the sentence state (B, E) at the end token, for ids (B, L)."""
    return read_words(clip, run_words(clip.transformer.resblocks, embed_words(clip, ids)), ids)
