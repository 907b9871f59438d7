"""TRIS' network, in which every text gets a score at every location of an image.

Between CLIP's two towers stands a bilateral prompt. Liu et al., Referring Image
Segmentation Using Text Supervision, ICCV 2023.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.backbones.clip import build_clip, encode_words, resnet_maps
from methods.tris.config import TrisConfig


def _norm(channels: int) -> nn.InstanceNorm2d:
    return nn.InstanceNorm2d(channels, affine=True)


class BilateralPrompt(nn.Module):
    """What the texts say to every location, and the locations to every text.

    Args:
        width: joint channels of locations and texts.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.v_proj1, self.v_proj2, self.v_proj3 = (
            nn.Sequential(nn.Conv2d(width, width, 1), _norm(width), nn.ReLU()) for _ in range(3)
        )
        self.t_proj1, self.t_proj2, self.t_proj3 = (
            nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(3)
        )
        self.v_output = nn.Sequential(nn.Conv2d(width, width, 1), _norm(width))
        self.t_output = nn.Sequential(nn.Linear(width, width))

    def forward(self, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prompts for v (B, C, h, w) and for t (1 or B, N, C).

        Their shapes are (B, C, h, w) and (B, N, C). With one text the softmax over
        texts is 1 everywhere, so the visual prompt is constant before the InstanceNorm
        and collapses to its bias (published).
        """
        visual = [
            project(v).flatten(2).transpose(1, 2)
            for project in (self.v_proj1, self.v_proj2, self.v_proj3)
        ]
        textual = [
            project(t).expand(len(v), -1, -1)
            for project in (self.t_proj1, self.t_proj2, self.t_proj3)
        ]
        new_v = F.scaled_dot_product_attention(visual[0], textual[1], textual[2])
        new_t = F.scaled_dot_product_attention(textual[0], visual[1], visual[2])
        new_v = new_v.transpose(1, 2).unflatten(-1, v.shape[-2:])
        return self.v_output(new_v), self.t_output(new_t)


class TrisNetwork(nn.Module):
    """TRIS' first step. Parameter names are the published ones.

    Nothing reads the attention pool and the logit scale of `backbone`, which published
    checkpoints hold.
    """

    def __init__(self, config: TrisConfig, vocabulary_size: int) -> None:
        super().__init__()
        clip = config.clip
        self.prompt_scale = config.prompt_scale
        self.backbone = build_clip(clip, vocabulary_size, grid_pool=False)
        self.vis_project = nn.Conv2d(32 * clip.width, config.hidden, 1)
        self.lan_project = nn.Linear(clip.embed, config.hidden)
        self.attn_fusion = BilateralPrompt(config.hidden)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, images: Tensor) -> Tensor:
        """Return v (B, C, S/32, S/32), a unit vector at every location.

        Args:
            images: (B, 3, S, S), normalized.
        """
        coarsest = resnet_maps(self.backbone.visual, images)[-1]
        return F.normalize(self.vis_project(coarsest), dim=1)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Return t (N, C), a unit vector for every sentence, for ids (N, L).

        The sentence state is taken at the largest id. A sentence that was cut before
        its end id has the state of the start id, the same for all such sentences
        (published).
        """
        return self.encode_words(ids)[1]

    def encode_words(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the words (N, L, D), which nothing else reads, and `encode_text`'s t (N, C)."""
        words, state = encode_words(self.backbone, ids)
        return words, F.normalize(self.lan_project(state), dim=-1)

    def score(self, v: Tensor, t: Tensor) -> Tensor:
        """Return the scores (B, N, h, w) of texts at locations.

        Texts are t (1 or B, N, C), locations v (B, C, h, w). A pair's score depends on
        the other texts, through the prompt.
        """
        new_v, new_t = self.attn_fusion(v, t)
        # A prompted side is no unit vector any more, and is not made one again
        # (published).
        v = v + self.prompt_scale * new_v
        t = t + self.prompt_scale * new_t
        return self.logit_scale.exp() * torch.einsum("bnc,bchw->bnhw", t, v)

    def forward(self, images: Tensor, ids: Tensor) -> Tensor:
        """Return the scores (B, N, S/32, S/32) of all sentences, ids (N, L), in all images."""
        return self.score(self.encode_image(images), self.encode_text(ids)[None])
