"""The expressions of an image in a split, with their ground truth and without pixels."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref, Sentence


@dataclasses.dataclass
class ImageExpressions:
    """All expressions of one image, in the order in which every evaluation takes them.

    Attributes:
        image_id: COCO's.
        refs: one entry per expression.
        sentences: one entry per expression, in the same order.
        masks: annotation ids of a ref -> its ground truth, uint8 (height, width) in {0, 1}.
    """

    image_id: int
    refs: list[Ref]
    sentences: list[Sentence]
    masks: dict[tuple[int, ...], np.ndarray]


def refs_by_image(refs: Iterable[Ref]) -> dict[int, list[Ref]]:
    """Return image_id -> its refs in file order, in the order of the ids."""
    found: dict[int, list[Ref]] = {}
    for ref in refs:
        found.setdefault(ref.image_id, []).append(ref)
    return dict(sorted(found.items()))


def expressions_of(dataset: ReferDataset, refs: list[Ref]) -> ImageExpressions:
    """Return all expressions of some refs.

    Args:
        dataset: holds the masks.
        refs: at least one, all of one image.

    Raises:
        UserError: an annotation is missing, or its segmentation is damaged.
    """
    pairs = [(ref, sentence) for ref in refs for sentence in ref.sentences]
    return ImageExpressions(
        image_id=refs[0].image_id,
        refs=[ref for ref, _ in pairs],
        sentences=[sentence for _, sentence in pairs],
        masks={ref.ann_ids: dataset.target(ref) for ref in refs},
    )


def expressions_by_image(dataset: ReferDataset, split: str) -> Iterator[ImageExpressions]:
    """Yield the expressions of each image of a split, in the order of the images' ids.

    Raises:
        UserError: there is no such split, or an annotation is missing or damaged.
    """
    for refs in refs_by_image(dataset.refs_of(split)).values():
        yield expressions_of(dataset, refs)
