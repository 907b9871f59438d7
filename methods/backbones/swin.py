"""Swin Transformer as the LAVT family runs it, assembled from timm's parts.

timm's own network merges patches at the start of a stage and rolls before it pads; the published one merges at the end
and pads before it rolls, never shrinks a window to its map, and hands out every stage's tokens before merging. The
difference is not small wherever a map is not a multiple of the window. Names and shapes are those of the published
checkpoints.
"""

from collections.abc import Mapping

import timm
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from timm.layers import PatchEmbed
from timm.models.swin_transformer import (
    PatchMerging,
    SwinTransformerBlock,
    get_relative_position_index,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn

from benchmark.base.pretrained import local, obtaining

UNNEEDED = {r"relative_position_index$": "follows from the window"}
"""What a published checkpoint holds of a Swin and `Swin` does without: pattern -> reason."""

# Channels of stage 0, blocks of stage 2, heads of stage 0.
_PUBLISHED = {"tiny": (96, 6, 3), "small": (96, 18, 3), "base": (128, 18, 4), "large": (192, 18, 6)}


class SwinSize(BaseModel):
    """The size of a Swin Transformer (Liu et al., ICCV 2021, section 3.3).

    Attributes:
        embed_dim: channels of stage 0; stage i has embed_dim * 2^i.
        depths, heads: blocks and attention heads of the four stages.
        window: side of an attention window in tokens.
        drop_path: stochastic depth of the last block; it grows linearly from 0 at the first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    embed_dim: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    window: int
    drop_path: float = 0.3

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the four stages."""
        return tuple(self.embed_dim * 2**stage for stage in range(4))

    @classmethod
    def published(cls, name: str, window: int) -> "SwinSize":
        """Return the published size called `name`: tiny, small, base or large."""
        embed_dim, depth, first = _PUBLISHED[name]
        heads = (first, 2 * first, 4 * first, 8 * first)
        return cls(embed_dim=embed_dim, depths=(2, 2, depth, 2), heads=heads, window=window)


class Block(SwinTransformerBlock):
    """timm's block with the published order: pad, roll, attend, roll back, crop."""

    def _attn(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % self.window_size[1], 0, -height % self.window_size[0]))
        padded = tuple(x.shape[1:3])
        shift = self.shift_size
        if any(shift):
            x = x.roll((-shift[0], -shift[1]), (1, 2))
        same = padded == tuple(
            -(-side // window) * window for side, window in zip(self.input_resolution, self.window_size, strict=True)
        )
        mask = self.attn_mask if same else self.get_attn_mask(x)
        windows = window_partition(x, self.window_size).flatten(1, 2)
        windows = self.attn(windows, mask=mask).unflatten(1, self.window_size)
        x = window_reverse(windows, self.window_size, *padded)
        if any(shift):
            x = x.roll(shift, (1, 2))
        return x[:, :height, :width]


class Stage(nn.Module):
    """The blocks of one stage and the merging that follows it (none after the last)."""

    def __init__(self, size: SwinSize, index: int, resolution: int, drop_path: list[float]) -> None:
        super().__init__()
        dim = size.channels[index]
        self.blocks = nn.Sequential(
            *(
                Block(
                    dim,
                    (resolution, resolution),
                    num_heads=size.heads[index],
                    window_size=size.window,
                    shift_size=size.window // 2 if number % 2 else 0,
                    always_partition=True,
                    drop_path=rate,
                )
                for number, rate in enumerate(drop_path)
            )
        )
        self.downsample = PatchMerging(dim, 2 * dim) if index < 3 else nn.Identity()


class Swin(nn.Module):
    """A four-stage Swin Transformer for dense prediction.

    `forward` runs `patch_embed`, then for every stage `blocks` and `downsample`; LAVT does so by itself and fuses words
    between the two. Tokens are (B, h, w, C) throughout. Whoever builds one, or adds to it in a subclass, calls `reset`.

    Args:
        size: the network's size.
        image_size: side of the square input that attention masks are prepared for; other sizes prepare them anew.
    """

    def __init__(self, size: SwinSize, image_size: int) -> None:
        super().__init__()
        self.size = size
        self.patch_embed = PatchEmbed(
            image_size,
            4,
            embed_dim=size.embed_dim,
            norm_layer=nn.LayerNorm,
            output_fmt="NHWC",
            strict_img_size=False,
            dynamic_img_pad=True,
        )
        blocks = sum(size.depths)
        rates = [size.drop_path * number / max(blocks - 1, 1) for number in range(blocks)]
        resolution = -(-image_size // 4)
        layers = []
        for index, depth in enumerate(size.depths):
            layers.append(Stage(size, index, resolution, rates[:depth]))
            rates, resolution = rates[depth:], -(-resolution // 2)
        self.layers = nn.ModuleList(layers)
        for index, channels in enumerate(size.channels):
            self.add_module(f"norm{index}", nn.LayerNorm(channels))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the four normalised maps (B, C_i, h_i, w_i), strides 4 to 32, for images (B, 3, H, W)."""
        x, maps = self.patch_embed(images), []
        for index, stage in enumerate(self.layers):
            x = stage.blocks(x)
            maps.append(getattr(self, f"norm{index}")(x).permute(0, 3, 1, 2))
            x = stage.downsample(x)
        return maps

    def reset(self) -> None:
        """Initialise every linear layer as published: truncated normal of deviation 0.02, zero bias."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def from_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a timm Swin under the names of `Swin`.

    Merging moves to the end of the previous stage; timm's final norm and its classifier have no counterpart.
    """
    renamed = {}
    for name, value in state.items():
        if name.startswith(("norm.", "head.")) or name.endswith(("relative_position_index", "attn_mask")):
            continue
        parts = name.split(".")
        if parts[0] == "layers" and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) - 1)
        renamed[".".join(parts)] = value
    return renamed


def relative_position_indices(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the buffers `relative_position_index` that published checkpoints hold: one beside every relative position table
    of `state`. They follow from the window, so ours do without."""
    indices = {}
    for name, table in state.items():
        if name.endswith("relative_position_bias_table"):
            window = (round(len(table) ** 0.5) + 1) // 2
            index = get_relative_position_index(window, window, device=table.device)
            indices[name.replace("bias_table", "index")] = index
    return indices


def starting_weights(name: str) -> dict[str, Tensor]:
    """Return timm's weights called `name` under the names of `Swin`, from a local file (timm's or the one that Swin's authors
    published), timm's cache or the hub. The norms of the stage outputs are not among them.

    Raises:
        UserError: they cannot be had or have another layout.
    """
    source = timm.get_pretrained_cfg(name)
    path = local(f"{name}.safetensors", f"{name}/model.safetensors", source.url.rsplit("/", 1)[-1])
    address = f"https://huggingface.co/{source.hf_hub_id} (model.safetensors) or {source.url}"
    with obtaining(f"the weights '{name}'", address, f"{name}.safetensors or under its own name"):
        overlay = {"file": str(path)} if path else None
        return from_timm(timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay).state_dict())
