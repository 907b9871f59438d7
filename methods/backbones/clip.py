"""CLIP's towers from open_clip, under OpenAI's parameter names.

The image tower is a ViT, or a ResNet whose attention pool may keep its grid.
"""

import math
from collections.abc import Iterable

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.modified_resnet import Bottleneck
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from benchmark.base import torchscript
from benchmark.base.pretrained import Source
from methods.backbones.attention import attend
from methods.backbones.positions import resize_positions
from methods.backbones.sizes import VIT_PATCH, ClipConfig

# Tensors of OpenAI's own files that are numbers about the network, or follow from them.
_NO_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}


class Block(ResidualAttentionBlock):
    """open_clip's block, whose attention is computed by `attend`."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Return tokens x (B, N, C) after the block.

        Args:
            x: (B, N, C).
            attn_mask: (N, N), what is added to the scores. None where all tokens see each other.
        """
        x = x + attend(self.attn, self.ln_1(x), mask=attn_mask)
        return x + self.mlp(self.ln_2(x))


BLOCKS = (Bottleneck, Block)
"""Types of the modules that the towers consist of."""


class GridAttentionPool(nn.Module):
    """CLIP's attention pool, kept as a grid (CRIS, CVPR 2022, section 3).

    All cells attend to each other, without a mean token, and nothing is pooled. A
    projected shortcut, `connect`, is added, which CLIP's weights do not hold. The first
    row of the position table is the mean token's and is dropped. The rest is resized to
    the grid bicubically.

    Args:
        grid: side of the grid that the position table is made for, in cells.
        channels: channels of the map that comes in.
        heads: number of attention heads.
        embed: width of the joint embedding.
    """

    def __init__(self, grid: int, channels: int, heads: int, embed: int) -> None:
        super().__init__()
        self.grid, self.heads = grid, heads
        self.positional_embedding = nn.Parameter(torch.randn(grid**2 + 1, channels) / channels**0.5)
        self.k_proj = nn.Linear(channels, channels)
        self.q_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, embed)
        self.connect = nn.Sequential(
            nn.Conv2d(channels, embed, 1, bias=False), nn.BatchNorm2d(embed)
        )
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(layer.weight, std=channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, E, h, w) for x (B, C, h, w)."""
        height, width = x.shape[-2:]
        table = self.positional_embedding[1:].T.reshape(1, -1, self.grid, self.grid)
        position = F.interpolate(
            table.float(), (height, width), mode="bicubic", align_corners=False
        ).to(x.dtype)
        tokens = (x + position).flatten(2).transpose(1, 2)
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        pooled = self.c_proj(attended).transpose(1, 2).unflatten(-1, (height, width))
        return F.relu(pooled + self.connect(x))


def build_clip(
    config: ClipConfig, vocabulary_size: int, patch: int = VIT_PATCH, grid_pool: bool = True
) -> CLIP:
    """Return open_clip's CLIP with random weights.

    Args:
        config: its dimensions.
        vocabulary_size: number of word pieces that it knows.
        patch: side of a ViT's patches, in pixels.
        grid_pool: whether the attention pool of a ResNet tower keeps its grid, or is
            CLIP's own.
    """
    clip = CLIP(
        config.embed,
        CLIPVisionCfg(
            layers=config.layers, width=config.width, image_size=config.image_size, patch_size=patch
        ),
        CLIPTextCfg(
            context_length=config.context,
            vocab_size=vocabulary_size,
            width=config.text_width,
            heads=config.text_heads,
            layers=config.text_layers,
        ),
        quick_gelu=True,
    )
    for module in clip.modules():
        if isinstance(module, ResidualAttentionBlock):
            # Its parameters, their names and their random numbers stay open_clip's.
            module.__class__ = Block
    if grid_pool and not config.vit:
        channels = config.width * 32
        clip.visual.attnpool = GridAttentionPool(
            config.image_size // 32, channels, channels // 64, config.embed
        )
    return clip


def starting_weights(name: str, source: Source) -> dict[str, Tensor]:
    """Return OpenAI's weights called `openai-<model>` under the names of `build_clip`.

    They come from a local file, open_clip's cache or the hub, and are rounded to fp16
    as published. They are float32. The shortcut of the attention pool is not among them,
    and a ViT's position table has the size it was trained at. The file may be the hub's
    or OpenAI's own, which is a TorchScript archive. Nothing in it is run.

    Raises:
        UserError: they cannot be had or have another layout.
    """
    model = name.removeprefix("openai-")
    hub = open_clip.get_pretrained_cfg(model, "openai")["hf_hub"].rstrip("/")
    address = f"https://huggingface.co/{hub} (open_clip_model.safetensors)"
    with source.obtaining(f"the weights '{name}'", address, f"{model}.safetensors"):
        path = source.local(
            f"{model}.safetensors", f"{model}/open_clip_model.safetensors", f"{model}.pt"
        )
        scripted = torchscript.read(path) if path and torchscript.is_torchscript(path) else None
        clip = open_clip.create_model(
            f"{model}-quickgelu",
            pretrained=None if scripted else str(path) if path else "openai",
        )
        if scripted:
            own = {
                key: value
                for key, value in scripted.items()
                if key.rpartition(".")[2] not in _NO_WEIGHTS
            }
            clip.load_state_dict(own)
        return {
            key: value.half().float()
            for key, value in clip.state_dict().items()
            if value.is_floating_point()
        }


def resized_positions(
    state: dict[str, Tensor], image_size: int, patch: int = VIT_PATCH
) -> dict[str, Tensor]:
    """Return a CLIP's weights with the position table of a ViT resized to an input's grid.

    The weights of a ResNet stay as they are.

    Args:
        state: as `starting_weights` returns it.
        image_size: side of the input, in pixels.
        patch: side of the ViT's patches, in pixels.
    """
    table = "visual.positional_embedding"
    if table not in state:
        return state
    grid = (image_size // patch,) * 2
    return {**state, table: resize_positions(state[table][None], grid, "bicubic")[0]}


def resnet_stages(visual: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three maps that CRIS reads, for images (B, 3, S, S).

    They are v3 (B, 8w, S/8, S/8), v4 (B, 16w, S/16, S/16) and v5 (B, E, S/32, S/32),
    where w is the tower's width. Its attention pool is a `GridAttentionPool`.
    """
    v3 = visual.layer2(visual.layer1(visual.stem(images)))
    v4 = visual.layer3(v3)
    return v3, v4, visual.attnpool(visual.layer4(v4))


def resnet_maps(visual: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the maps c1 to c4 of images (B, 3, S, S), without any pooling.

    They are (B, 4w, S/4, S/4) to (B, 32w, S/32, S/32), where w is the tower's width.
    """
    c1 = visual.layer1(visual.stem(images))
    c2 = visual.layer2(c1)
    c3 = visual.layer3(c2)
    return c1, c2, c3, visual.layer4(c3)


class ResNetStages:
    """A ResNet tower in three stages, for a caller that adds to the maps in between.

    Its state is a map (B, C, h, w).
    """

    def __init__(self, visual: nn.Module) -> None:
        self.visual = visual
        self.stages = (visual.layer2, visual.layer3, visual.layer4)

    def start(self, images: Tensor) -> Tensor:
        """Return the state before the first of the three stages, for images (B, 3, S, S)."""
        return self.visual.layer1(self.visual.stem(images))

    def run(self, stage: int, x: Tensor) -> Tensor:
        """Return the state after the stage numbered `stage`, which is 0, 1 or 2."""
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
    """A ViT tower in three stages of as many blocks, with the interface of `ResNetStages`.

    Its state is the tokens (B, 1 + g^2, C), the class token first.
    """

    def __init__(self, visual: nn.Module) -> None:
        self.visual = visual
        self.blocks = thirds(visual.transformer.resblocks)

    def start(self, images: Tensor) -> Tensor:
        """Return the tokens (B, 1 + g^2, C) before the first stage, for images (B, 3, S, S)."""
        return self.enter(self.embed(images))

    def embed(self, images: Tensor) -> Tensor:
        """Return the patches' embeddings (B, g^2, C), row-major, for images (B, 3, S, S)."""
        return self.visual.conv1(images).flatten(2).transpose(1, 2)

    def enter(self, patches: Tensor) -> Tensor:
        """Return what `start` does, for embeddings of `embed`."""
        first = self.visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        x = torch.cat([first, patches], 1)
        return self.visual.ln_pre(x + self.visual.positional_embedding.to(x.dtype))

    def run(self, stage: int, x: Tensor) -> Tensor:
        """Return the tokens after the stage numbered `stage`, which is 0, 1 or 2."""
        for block in self.blocks[stage]:
            x = block(x)
        return x

    def grid(self, x: Tensor) -> Tensor:
        """Return the patch tokens as a map (B, C, g, g)."""
        side = math.isqrt(x.shape[1] - 1)
        return x[:, 1:].transpose(1, 2).unflatten(-1, (side, side))

    def add(self, x: Tensor, change: Tensor) -> Tensor:
        """Return the tokens with `change` (B, C, g, g) added to the patches.

        The class token is no part of a map and stays as it is.
        """
        return torch.cat([x[:, :1], x[:, 1:] + change.flatten(2).transpose(1, 2)], 1)

    def finish(self, x: Tensor) -> Tensor:
        """Return the joint embedding (B, E, g, g) of the patches."""
        return self.grid(self.joint(x))

    def pooled(self, images: Tensor) -> Tensor:
        """Return the joint embedding (B, E) of the class token, for images (B, 3, S, S)."""
        x = self.start(images)
        for block in self.visual.transformer.resblocks:
            x = block(x)
        return self.joint(x[:, 0])

    def joint(self, x: Tensor) -> Tensor:
        """Return the joint embedding (B, 1 + g^2, E) of all tokens, the class token first."""
        return self.visual.ln_post(x) @ self.visual.proj


def thirds(blocks: nn.ModuleList) -> tuple[nn.ModuleList, ...]:
    """Return `blocks` in three runs of equal length."""
    size = len(blocks) // 3
    return blocks[:size], blocks[size : 2 * size], blocks[2 * size :]


def causal_mask(length: int, like: Tensor) -> Tensor:
    """Return CLIP's additive causal mask (L, L) in the dtype and on the device of `like`."""
    mask = torch.full((length, length), float("-inf"), dtype=like.dtype, device=like.device)
    return mask.triu_(1)


def embed_words(clip: CLIP, ids: Tensor) -> Tensor:
    """Return what enters the text blocks, (B, L, D), for ids int64 (B, L)."""
    return add_positions(clip, clip.token_embedding(ids))


def add_positions(clip: CLIP, x: Tensor) -> Tensor:
    """Return embeddings of word pieces x (B, L, D) with their positions added."""
    return x + clip.positional_embedding[: x.shape[1]].to(x.dtype)


def run_words(blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Return x (B, L, D) after causal text blocks.

    Padding runs along. It stands last, so the causal mask hides it from the words.
    """
    mask = causal_mask(x.shape[1], x)
    for block in blocks:
        x = block(x, mask)
    return x


def read_words(clip: CLIP, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return word features (B, L, D), not projected, and the sentence state (B, E).

    Args:
        clip: the CLIP whose text tower it is.
        x: (B, L, D), the last text block's output.
        ids: int64 (B, L), the word pieces.
    """
    words = clip.ln_final(x)
    # The state stands at the end token. That is the largest id, so `argmax` finds its
    # first occurrence.
    state = words[torch.arange(len(ids), device=ids.device), ids.argmax(1)] @ clip.text_projection
    return words, state


def encode_words(clip: CLIP, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return word features (B, L, D), not projected, and sentence states (B, E).

    `ids` is int64 (B, L).
    """
    x = run_words(clip.transformer.resblocks, embed_words(clip, ids))
    return read_words(clip, x, ids)
