"""CM-MaskSD's network, which is CRIS on a CLIP ViT with two learned mask tokens.

Wang et al., CM-MaskSD: Cross-Modality Masked Self-Distillation for Referring Image
Segmentation, IEEE TMM 2024 (arXiv 2305.11481). Its code was never published. What the
paper leaves open is decided in this method's README.
"""

import torch
from torch import Tensor, nn

from methods.backbones.clip import VitStages, add_positions, build_clip, read_words, run_words
from methods.cmmasksd.config import CMMaskSDConfig
from methods.cris import network as cris
from methods.cris.network import ClipSegmenter, Maps


class Neck(cris.Neck):
    """CRIS' neck for three maps of one size, of which none is resampled."""

    def down(self, x: Tensor) -> Tensor:
        """Return the map as it is."""
        return x

    def up(self, x: Tensor) -> Tensor:
        """Return the map as it is."""
        return x


class CMMaskSDNetwork(ClipSegmenter):
    """CRIS' network on a CLIP ViT, and the two mask tokens.

    `mask_patch` and `mask_word` take the place of embeddings that a pass must not see. A
    pass that hides nothing does not read them. The logits are (B, 1, 4g, 4g), where g is
    the number of patches along a side.

    Args:
        config: size of the network.
        vocabulary_size: number of word pieces that CLIP knows.

    Raises:
        ValueError: the neck's middle width is not that of the text tower, or the depth of
            the ViT is no multiple of 3.
    """

    def __init__(self, config: CMMaskSDConfig, vocabulary_size: int) -> None:
        clip = config.clip
        if clip.layers % 3:
            raise ValueError("the neck reads three stages: the ViT's depth must be a multiple of 3")
        backbone = build_clip(clip, vocabulary_size, config.patch)
        neck = Neck((clip.width, clip.width, clip.embed), config.neck, clip.embed)
        super().__init__(config, backbone, neck)
        self.mask_patch = nn.Parameter(torch.empty(clip.width).normal_(0, 0.02))
        self.mask_word = nn.Parameter(torch.empty(clip.text_width).normal_(0, 0.02))

    def stages(self, images: Tensor, hidden: Tensor | None = None) -> tuple[Maps, Tensor]:
        """Return the maps v3, v4 and v5, and the joint embedding (B, E) of the class token.

        All maps have a cell for each of the g * g patches. v3 and v4 (B, C, g, g) are the
        tokens after a third and two thirds of the blocks, and v5 (B, E, g, g) is the
        joint embedding.

        Args:
            images: (B, 3, S, S), normalized.
            hidden: bool (B, g * g), True at the patches that `mask_patch` replaces before
                the class token and positions are added.
        """
        tower = VitStages(self.backbone.visual)
        patches = tower.embed(images)
        if hidden is not None:
            patches = torch.where(hidden[..., None], self.mask_patch.to(patches.dtype), patches)
        x = tower.enter(patches)
        maps = []
        for stage in range(3):
            x = tower.run(stage, x)
            maps.append(tower.grid(x))
        joint = tower.joint(x)
        return (maps[0], maps[1], tower.grid(joint)), joint[:, 0]

    def encode_image(self, images: Tensor) -> Maps:
        """Return the neck's text-free maps for images (B, 3, S, S)."""
        return self.neck.project(self.stages(images)[0])

    def encode_words(self, ids: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return words (B, L, D), not projected, and sentence states (B, E).

        Args:
            ids: int64 (B, L), the sentences' word pieces.
            hidden: bool (B, L), True at the pieces that `mask_word` replaces before
                positions are added. The ids still say where a sentence ends.
        """
        clip = self.backbone
        x = clip.token_embedding(ids)
        if hidden is not None:
            x = torch.where(hidden[..., None], self.mask_word.to(x.dtype), x)
        return read_words(clip, run_words(clip.transformer.resblocks, add_positions(clip, x)), ids)
