"""Positive response map selection (PRMS), which turns score maps into pseudo labels.

It is done on the training split alone.
"""

from open_clip.model import CLIP
from torch import Tensor

from methods.tris.auxiliary import embed_visible, embed_words


def response_similarities(auxiliary: CLIP, image: Tensor, responses: Tensor, ids: Tensor) -> Tensor:
    """Return how well what a map leaves visible agrees with a sentence, cosines (J, K).

    Args:
        auxiliary: TRIS' frozen CLIP.
        image: (1, 3, S, S), normalized.
        responses: (J, 1, S, S), clipped scores at input size, one map per sentence.
            They are neither a sigmoid nor normalized (published).
        ids: int64 (K, L), all sentences of the ref. Normally J = K.
    """
    visible = embed_visible(auxiliary, image.expand(len(responses), -1, -1, -1), responses)
    return visible @ embed_words(auxiliary, ids).T


def select_response(responses: Tensor, similarities: Tensor) -> Tensor:
    """Return the response map (h, w), in 0..1, that agrees best with its ref's sentences.

    Args:
        responses: (J, h, w), response maps that are not negative.
        similarities: (J, K), what `response_similarities` returned.
    """
    kept = responses[similarities.sum(1).argmax()]
    return kept / (kept.max() + 1e-5)
