"""Swin Transformer as the LAVT family runs it, assembled from timm's parts.

timm's own network merges patches at the start of a stage and rolls before it pads. The
published one merges at the end and pads before it rolls, never shrinks a window to its
map, and hands out every stage's tokens before merging. The difference is not small
wherever a map is not a multiple of the window. Names and shapes are those of the
published checkpoints.
"""

from collections.abc import Mapping

import timm
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.swin_transformer import (
    PatchMerging,
    SwinTransformerBlock,
    get_relative_position_index,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn

from benchmark.base.pretrained import Source
from methods.backbones.sizes import SwinSize

UNNEEDED = {r"relative_position_index$": "follows from the window"}
"""Pattern over the entries of a published Swin that `Swin` lacks -> why it lacks them."""


class Block(SwinTransformerBlock):
    """timm's block in the published order.

    It pads, rolls, attends, rolls back and crops.
    """

    def _attn(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        # The published code pads before it rolls. timm rolls first, so other tokens would
        # meet in a window.
        x = F.pad(x, (0, 0, 0, -width % self.window_size[1], 0, -height % self.window_size[0]))
        padded = tuple(x.shape[1:3])
        shift = self.shift_size
        if any(shift):
            x = x.roll((-shift[0], -shift[1]), (1, 2))
        # The block prepared its mask for the resolution it was built with, padded to
        # whole windows.
        prepared = tuple(
            -(-side // window) * window
            for side, window in zip(self.input_resolution, self.window_size, strict=True)
        )
        mask = self.attn_mask if padded == prepared else self.get_attn_mask(x)
        windows = window_partition(x, self.window_size).flatten(1, 2)
        windows = self.attn(windows, mask=mask).unflatten(1, self.window_size)
        x = window_reverse(windows, self.window_size, *padded)
        if any(shift):
            x = x.roll(shift, (1, 2))
        return x[:, :height, :width]


class Stage(nn.Module):
    """The blocks of one stage and the merging that follows it.

    Nothing follows the last stage.

    Args:
        size: size of the whole network.
        index: number of the stage, from 0 to 3.
        resolution: side of the stage's map that attention masks are prepared for.
        drop_path: stochastic depth of each block.
    """

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

    `forward` runs `patch_embed`, and then `blocks` and `downsample` of every stage. LAVT
    does so by itself and fuses words between the two. Tokens are (B, h, w, C)
    throughout. Whoever builds one, or adds to it in a subclass, calls `reset`.

    Args:
        size: the network's size.
        image_size: side of the square input that attention masks are prepared for, in
            pixels. Another size prepares them anew in every forward pass.
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
        # The rate of stochastic depth grows over the blocks of all stages.
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
        """Return four normalized maps (B, C_i, h_i, w_i) at strides 4 to 32.

        Args:
            images: (B, 3, H, W), normalized.
        """
        x = self.patch_embed(images)
        maps = []
        for index, stage in enumerate(self.layers):
            x = stage.blocks(x)
            maps.append(getattr(self, f"norm{index}")(x).permute(0, 3, 1, 2))
            x = stage.downsample(x)
        return maps

    def reset(self) -> None:
        """Initialize every linear layer as published.

        Weights are truncated normal with standard deviation 0.02, and biases are 0.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def from_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a timm Swin under the names of `Swin`.

    Merging moves to the end of the previous stage. timm's final norm and its classifier
    have no counterpart.
    """
    renamed = {}
    for name, value in state.items():
        if name.startswith(("norm.", "head.")):
            continue
        # timm's own layers rebuild these buffers.
        if name.endswith(("relative_position_index", "attn_mask")):
            continue
        parts = name.split(".")
        if parts[0] == "layers" and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) - 1)
        renamed[".".join(parts)] = value
    return renamed


def relative_position_indices(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the buffers `relative_position_index` that published checkpoints hold.

    There is one beside every relative position table of `state`. They follow from the
    window, so ours do without.
    """
    indices = {}
    for name, table in state.items():
        if name.endswith("relative_position_bias_table"):
            window = (round(len(table) ** 0.5) + 1) // 2
            index = get_relative_position_index(window, window, device=table.device)
            indices[name.replace("bias_table", "index")] = index
    return indices


def starting_weights(name: str, source: Source) -> dict[str, Tensor]:
    """Return timm's weights called `name` under the names of `Swin`.

    They come from a local file, timm's cache or the hub. The file may be timm's or the
    one that Swin's authors published. The norms of the stage outputs are not among them.

    Raises:
        UserError: they cannot be had or have another layout.
    """
    published = timm.get_pretrained_cfg(name)
    own_name = published.url.rsplit("/", 1)[-1]
    path = source.local(f"{name}.safetensors", f"{name}/model.safetensors", own_name)
    address = f"https://huggingface.co/{published.hf_hub_id} (model.safetensors) or {published.url}"
    put_as = f"{name}.safetensors or under its own name"
    with source.obtaining(f"the weights '{name}'", address, put_as):
        overlay = {"file": str(path)} if path else None
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
        return from_timm(model.state_dict())
