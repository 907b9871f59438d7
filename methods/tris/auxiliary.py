"""The frozen CLIP of TRIS' loss, which tells if a map leaves visible what a sentence says.

The published one is OpenAI's ViT-B/32. Without published weights a small one is trained
first, on whole images and their sentences. It sees no box and no mask.
"""

import itertools
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from benchmark.base.rng import reseed_dropout
from methods.backbones.clip import VitStages, build_clip, encode_words
from methods.precision import at_least_float32
from methods.tris.config import AuxiliaryConfig

# The largest scale of the contrastive logits, as in CLIP (section 2.5).
LARGEST_SCALE = 100.0
# The number of sentences whose vectors are kept. RefCOCO has fewer, and they take 256 MiB.
KEPT = 2**17
# The number of sentences that are embedded together. A product of a few rows is rounded
# otherwise than one of many.
TOGETHER = 16


def build(config: AuxiliaryConfig, vocabulary_size: int) -> CLIP:
    """Return the auxiliary with random weights, frozen and in eval mode."""
    return build_clip(config, vocabulary_size, config.patch).requires_grad_(False).eval()


def embed_words(auxiliary: CLIP, ids: Tensor) -> Tensor:
    """Return unit vectors (B, E) of sentences, ids (B, L)."""
    return F.normalize(at_least_float32(encode_words(auxiliary, ids)[1]), dim=-1)


class Sentences:
    """The vectors of sentences, each of which a frozen auxiliary computes only once.

    A vector does not depend on what was asked before, so a training that is resumed gets
    the same ones. Once `KEPT` of them are kept, others are computed whenever they are
    asked.

    Args:
        auxiliary: the frozen CLIP. `forget` must be called when its weights change.
    """

    def __init__(self, auxiliary: CLIP) -> None:
        self.auxiliary = auxiliary
        self._vectors: dict[bytes, Tensor] = {}

    def forget(self) -> None:
        """Drop all that is kept."""
        self._vectors.clear()

    @torch.no_grad()
    def embed(self, ids: Tensor) -> Tensor:
        """Return what `embed_words` returns for ids (B, L), unit vectors (B, E)."""
        # The look-up would wait for a GPU, and would break a compiled graph in two.
        if ids.device.type != "cpu" or torch.compiler.is_compiling():
            return embed_words(self.auxiliary, ids)
        keys = [row.tobytes() for row in ids.numpy()]
        # A sentence that is in the batch twice is computed once.
        missing = {key: row for row, key in enumerate(keys) if key not in self._vectors}
        found = dict(zip(missing, self._compute(ids[[*missing.values()]]), strict=True))
        vectors = [found[key] if key in found else self._vectors[key] for key in keys]
        room = KEPT - len(self._vectors)
        self._vectors |= itertools.islice(found.items(), max(0, room))
        return torch.stack(vectors)

    def _compute(self, ids: Tensor) -> list[Tensor]:
        """Return a vector (E,) of each sentence, which does not depend on the others."""
        vectors: list[Tensor] = []
        for part in ids.split(TOGETHER) if len(ids) else ():
            filled = torch.cat([part, part[-1:].expand(TOGETHER - len(part), -1)])
            vectors += embed_words(self.auxiliary, filled)[: len(part)]
        return vectors


def embed_visible(auxiliary: CLIP, images: Tensor, maps: Tensor | None = None) -> Tensor:
    """Return unit vectors (B, E) of images, each times its map if maps are given.

    Where a map is 0, the image's mean color is seen, since it is multiplied after
    normalization. Image and map are resized separately, bilinearly with align_corners
    True (published).

    Args:
        auxiliary: the frozen CLIP.
        images: (B, 3, S, S), normalized.
        maps: (B, 1, s, s), or None.
    """
    size = auxiliary.visual.image_size
    seen = F.interpolate(images, size, mode="bilinear", align_corners=True)
    if maps is not None:
        seen = seen * F.interpolate(maps, size, mode="bilinear", align_corners=True)
    return F.normalize(at_least_float32(VitStages(auxiliary.visual).pooled(seen)), dim=-1)


def train(
    config: AuxiliaryConfig,
    vocabulary_size: int,
    pairs: Iterable[tuple[Tensor, Tensor]],
    steps: int,
    device: torch.device,
) -> dict[str, Tensor]:
    """Return the weights, on the CPU, of an auxiliary trained by CLIP's contrastive loss.

    On a CPU they are a function of the arguments.

    Args:
        config: the auxiliary's dimensions, with `training`.
        vocabulary_size: number of word pieces that it knows.
        pairs: batches, over all epochs, of whole normalized images, float32
            (B, 3, S, S), and ids (B, L) of a sentence of each.
        steps: number of batches.
        device: device of the training.
    """
    # Starting weights come from the global generator, which may be in any state.
    reseed_dropout("auxiliary")
    auxiliary = build(config, vocabulary_size).requires_grad_(True).train().to(device)
    rate = config.training.learning_rate
    optimizer = torch.optim.AdamW(
        auxiliary.parameters(), lr=rate, weight_decay=config.training.weight_decay
    )
    for step, (images, ids) in enumerate(pairs):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        scale = auxiliary.logit_scale.exp().clamp(max=LARGEST_SCALE)
        similarity = scale * embed_visible(auxiliary, images) @ embed_words(auxiliary, ids).T
        own = torch.arange(len(ids), device=device)
        loss = (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: value.detach().cpu() for name, value in auxiliary.state_dict().items()}
