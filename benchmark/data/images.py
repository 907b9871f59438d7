"""Evaluation images: each image of a split once, with all its expressions and its ground truth."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmark.base.geometry import Geometry, prepare_image
from benchmark.data.refer import Ref, ReferDataset, Sentence
from methods.config import DataNeeds

# What happens to an original image, uint8 (height, width, 3), before it is prepared: another one of the same size.
Transform = Callable[[np.ndarray, int], np.ndarray]  # (pixels, image_id)


@dataclasses.dataclass
class EvaluationImage:
    """One image of a split with all its expressions.

    Attributes:
        image_id: COCO's. image: uint8 (S, S, 3), preprocessed. geometry: its way in and back.
        refs, sentences: of equal length, one entry per expression.
        masks: annotation ids of a ref -> its ground truth, uint8 (height, width) in {0, 1}.
    """

    image_id: int
    image: Tensor
    geometry: Geometry
    refs: list[Ref]
    sentences: list[Sentence]
    masks: dict[tuple[int, ...], np.ndarray]


class EvaluationImages(Dataset):
    """The images of a split in the order of their ids, each with all its expressions; `transform` changes their pixels."""

    def __init__(
        self,
        dataset: ReferDataset,
        split: str,
        needs: DataNeeds,
        transform: Transform | None = None,
    ) -> None:
        self.dataset, self.needs, self.transform = dataset, needs, transform
        self.by_image: dict[int, list[Ref]] = defaultdict(list)
        for ref in dataset.refs_of(split):
            self.by_image[ref.image_id].append(ref)
        self.image_ids = sorted(self.by_image)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> EvaluationImage:
        image_id = self.image_ids[index]
        pixels = self.dataset.image(image_id)
        if self.transform:
            pixels = self.transform(pixels, image_id)
        return evaluation_image(self.dataset, self.by_image[image_id], pixels, self.needs)


def evaluation_image(
    dataset: ReferDataset, refs: list[Ref], pixels: np.ndarray, needs: DataNeeds
) -> EvaluationImage:
    """Return one image, uint8 (height, width, 3), prepared for a method, with all expressions of `refs`, which are of it."""
    pairs = [(ref, sentence) for ref in refs for sentence in ref.sentences]
    geometry = Geometry(*pixels.shape[:2], needs.size, needs.geometry)
    return EvaluationImage(
        refs[0].image_id,
        torch.tensor(prepare_image(pixels, geometry, needs.mean)),
        geometry,
        [ref for ref, _ in pairs],
        [sentence for _, sentence in pairs],
        {ref.ann_ids: dataset.target(ref) for ref in refs},
    )
