"""Vision Transformer as SaG runs it, assembled from timm's parts under timm's names.

timm's own differs in three places: the epsilon of its norms is 1e-6, it resizes a
position table with antialiasing, and it does so once, so that the table fits the input.
The published table is that of a larger image and is reduced in every forward pass.
"""

import math
from functools import partial

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmark.base.pretrained import Source
from methods.backbones.sizes import VitSize


class Vit(VisionTransformer):
    """A Vision Transformer without classifier, for images of any multiple of the patch."""

    def __init__(self, size: VitSize) -> None:
        super().__init__(
            img_size=size.positions * size.patch,
            patch_size=size.patch,
            num_classes=0,
            global_pool="",
            embed_dim=size.width,
            depth=size.layers,
            num_heads=size.heads,
            mlp_ratio=size.mlp / size.width,
            drop_path_rate=size.drop_path,
            norm_layer=partial(nn.LayerNorm, eps=1e-5),  # published; timm's is 1e-6
            dynamic_img_size=True,
        )

    def _pos_embed(self, x: Tensor) -> Tensor:
        # timm's hook: patches (B, h, w, C) become tokens (B, 1 + h * w, C) with positions.
        table = resize_positions(self.pos_embed, tuple(x.shape[1:3]), "bilinear")
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(1, 2)], 1) + table


def resize_positions(table: Tensor, shape: tuple[int, int], mode: str) -> Tensor:
    """Return a position table (1, 1 + g^2, C), resized to (1, 1 + h * w, C).

    The class token's row comes first and stays. align_corners is False and there is no
    antialiasing, as in timm until 0.6.

    Args:
        table: (1, 1 + g^2, C).
        shape: (h, w), the grid's new height and width.
        mode: `bilinear` or `bicubic`.
    """
    first, rest = table[:, :1], table[:, 1:]
    side = math.isqrt(rest.shape[1])
    grid = rest.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, shape, mode=mode, align_corners=False)
    return torch.cat([first, grid.flatten(2).transpose(1, 2)], 1)


def starting_weights(name: str, source: Source, positions: int) -> dict[str, Tensor]:
    """Return timm's weights called `name` under the names of `Vit`.

    They come from a local file, timm's cache or the hub. The position table is enlarged
    bicubically to a grid of side `positions`.

    Raises:
        UserError: they cannot be had or have another layout.
    """
    hub = timm.get_pretrained_cfg(name).hf_hub_id
    path = source.local(f"{name}.safetensors", f"{name}/model.safetensors")
    address = f"https://huggingface.co/{hub} (model.safetensors)"
    with source.obtaining(f"the weights '{name}'", address, f"{name}.safetensors"):
        # `custom_load` would read a local file as the .npz of the ViT's authors.
        overlay = {"file": str(path), "custom_load": False} if path else None
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
        state = model.state_dict()
    state["pos_embed"] = resize_positions(state["pos_embed"], (positions, positions), "bicubic")
    return {entry: value for entry, value in state.items() if not entry.startswith("head.")}
