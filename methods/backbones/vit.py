"""Vision Transformer as SaG runs it, assembled from timm's parts under timm's names.

timm's own differs in three places: the epsilon of its norms (1e-6), the antialiasing with which it resizes a position table, and
when: it does so once, so that the table fits the input. The published table is that of a larger image and is reduced in every
forward.
"""

import math
from functools import partial

import timm
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmark.base.pretrained import local, obtaining


class VitSize(BaseModel):
    """The size of a Vision Transformer; the defaults are ViT-S (Steiner et al., TMLR 2022, table 2).

    Attributes:
        width, layers, heads, mlp: channels of a token, blocks, attention heads, channels inside the MLPs.
        patch: side of a patch in pixels.
        positions: side of the grid that the position table is trained for.
        drop_path: stochastic depth of the last block; it grows linearly from 0 at the first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = 384
    layers: int = 12
    heads: int = 6
    mlp: int = 1536
    patch: int = 16
    positions: int = 30
    drop_path: float = 0.1


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
            norm_layer=partial(nn.LayerNorm, eps=1e-5),
            dynamic_img_size=True,
        )

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Return tokens (B, 1 + h * w, C) with their positions, of patches (B, h, w, C): timm's hook."""
        table = resize_positions(self.pos_embed, tuple(x.shape[1:3]), "bilinear")
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(1, 2)], 1) + table


def resize_positions(table: Tensor, shape: tuple[int, int], mode: str) -> Tensor:
    """Return a position table (1, 1 + g^2, C) for a grid of `shape` (h, w): (1, 1 + h * w, C), the class token's row first.

    `mode` is `bilinear` or `bicubic`; align_corners False and no antialiasing, as timm did it until 0.6.
    """
    first, rest = table[:, :1], table[:, 1:]
    side = math.isqrt(rest.shape[1])
    grid = rest.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, shape, mode=mode, align_corners=False)
    return torch.cat([first, grid.flatten(2).transpose(1, 2)], 1)


def starting_weights(name: str, positions: int) -> dict[str, Tensor]:
    """Return timm's weights called `name` under the names of `Vit`, the position table enlarged (bicubic) to a grid of side
    `positions`; from a local file, timm's cache or the hub.

    Raises:
        UserError: they cannot be had or have another layout.
    """
    source = timm.get_pretrained_cfg(name)
    path = local(f"{name}.safetensors", f"{name}/model.safetensors")
    address = f"https://huggingface.co/{source.hf_hub_id} (model.safetensors)"
    with obtaining(name, address, f"{name}.safetensors"):
        # `custom_load` would read a local file as the .npz of the ViT's authors.
        overlay = {"file": str(path), "custom_load": False} if path else None
        state = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay).state_dict()
    state["pos_embed"] = resize_positions(state["pos_embed"], (positions, positions), "bicubic")
    return {entry: value for entry, value in state.items() if not entry.startswith("head.")}
