"""Vision Transformer as SaG runs it, assembled from timm's parts under timm's names.

timm's own differs in three places. The epsilon of its norms is 1e-6. It resizes a
position table with antialiasing. It does so once, so that the table fits the input,
while the published table is that of a larger image and is reduced in every forward pass.
"""

from functools import partial

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmark.base.pretrained import Source
from methods.backbones.positions import resize_positions
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
            # The published epsilon. timm's own is 1e-6.
            norm_layer=partial(nn.LayerNorm, eps=1e-5),
            dynamic_img_size=True,
        )

    def _pos_embed(self, x: Tensor) -> Tensor:
        # timm calls this hook to turn patches (B, h, w, C) into tokens (B, 1 + h * w, C)
        # with positions.
        table = resize_positions(self.pos_embed, tuple(x.shape[1:3]), "bilinear")
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(1, 2)], 1) + table


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
