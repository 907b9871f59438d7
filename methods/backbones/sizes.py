"""The sizes of the encoders that several methods share.

They are parts of configurations, which are read without torch.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

# The side of the patches of CLIP's ViT, in pixels.
VIT_PATCH = 16

# The published Swins differ in the channels of stage 0, the blocks of stage 2 and the heads
# of stage 0.
_SWINS = {"tiny": (96, 6, 3), "small": (96, 18, 3), "base": (128, 18, 4), "large": (192, 18, 6)}


class SwinSize(BaseModel):
    """The size of a Swin Transformer (Liu et al., ICCV 2021, section 3.3).

    Attributes:
        embed_dim: channels of stage 0. Stage i has embed_dim * 2^i.
        depths: blocks of the four stages.
        heads: attention heads of a block in the four stages.
        window: side of an attention window, in tokens.
        drop_path: stochastic depth of the last block. It grows linearly from 0 at the
            first.
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
    def published(cls, name: str, window: int) -> SwinSize:
        """Return the published size called `name`.

        Args:
            name: `tiny`, `small`, `base` or `large`.
            window: side of an attention window, in tokens.
        """
        embed_dim, depth, first = _SWINS[name]
        return cls(
            embed_dim=embed_dim,
            depths=(2, 2, depth, 2),
            heads=(first, 2 * first, 4 * first, 8 * first),
            window=window,
        )


class BertSize(BaseModel):
    """The size of a BERT. The defaults are bert-base-uncased (Devlin et al., NAACL 2019).

    Attributes:
        hidden: channels of a word's state.
        layers: number of transformer layers.
        heads: attention heads of a layer.
        intermediate: channels inside the feed-forward network.
        positions: longest sentence, in word pieces.
        dropout: dropout of hidden states and attention weights in training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072
    positions: int = 512
    dropout: float = 0.1


class VitSize(BaseModel):
    """The size of a ViT. The defaults are ViT-S (Steiner et al., TMLR 2022, table 2).

    Attributes:
        width: channels of a token.
        layers: number of blocks.
        heads: attention heads of a block.
        mlp: channels inside a block's MLP.
        patch: side of a patch, in pixels.
        positions: side of the grid that the position table is trained for.
        drop_path: stochastic depth of the last block. It grows linearly from 0 at the
            first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = 384
    layers: int = 12
    heads: int = 6
    mlp: int = 1536
    patch: int = 16
    positions: int = 30
    drop_path: float = 0.1


class ClipConfig(BaseModel):
    """Dimensions of a CLIP (Radford et al., ICML 2021, tables 19 and 20).

    Attributes:
        embed: joint embedding width E.
        layers: bottleneck blocks of the four stages of a ResNet, or blocks of a ViT.
        width: channels of a ViT, or those of a ResNet after its stem. The ResNet's
            stage outputs have 4, 8, 16 and 32 times as many.
        image_size: side of the images that the position table was made for, in pixels.
            The table of a ResNet has a grid of side image_size / 32, and any input fits
            it. That of a ViT has one of side image_size / 16 (or / 14, where its patches
            have 14 pixels), and the input must have this very size.
        text_width: channels of a word in the text transformer.
        text_heads: attention heads of its blocks.
        text_layers: number of its blocks.
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


# The published CLIPs.
RN50 = ClipConfig(embed=1024, layers=(3, 4, 6, 3), width=64)
RN101 = ClipConfig(embed=512, layers=(3, 4, 23, 3), width=64)
VIT_B16 = ClipConfig(embed=512, layers=12, width=768)
VIT_L14 = ClipConfig(embed=768, layers=24, width=1024, text_width=768, text_heads=12)

# Nobody published the sizes below. They are for networks that are trained from scratch:
# the small ones on one GPU, the tiny ones on a CPU within a minute.
SMALL_SWIN = SwinSize(
    embed_dim=96,
    depths=(2, 2, 6, 2),
    heads=(3, 6, 12, 24),
    window=7,
    drop_path=0.1,
)
TINY_SWIN = SwinSize(
    embed_dim=16,
    depths=(1, 1, 1, 1),
    heads=(1, 2, 4, 8),
    window=4,
    drop_path=0.02,
)
SMALL_BERT = BertSize(hidden=256, layers=4, heads=4, intermediate=1024, positions=32)
TINY_BERT = BertSize(hidden=64, layers=1, heads=4, intermediate=128, positions=32)
SMALL_CLIP = ClipConfig(
    embed=512,
    layers=(2, 2, 3, 2),
    width=32,
    text_width=256,
    text_heads=4,
    text_layers=6,
    context=32,
)
TINY_CLIP = ClipConfig(
    embed=128,
    layers=(1, 1, 1, 1),
    width=12,
    image_size=96,
    text_width=64,
    text_heads=4,
    text_layers=3,
    context=20,
)
