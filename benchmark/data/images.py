"""Evaluation images. Each image of a split occurs once, with all its expressions and its masks."""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmark.base.geometry import Geometry, prepare_image
from benchmark.data.expressions import ImageExpressions, expressions_of, refs_by_image
from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref
from methods.config import DataNeeds

# Changes an original image, uint8 (height, width, 3), into another one of the same size before it
# is prepared.
Transform = Callable[[np.ndarray, int], np.ndarray]  # (pixels, image_id)


@dataclasses.dataclass
class EvaluationImage(ImageExpressions):
    """One image of a split with all its expressions, as a network takes it.

    Attributes:
        image: RGB, uint8 (S, S, 3), at the size of the network's input and not yet normalised.
        geometry: its way into the network and back.
    """

    image: Tensor
    geometry: Geometry


class EvaluationImages(Dataset):
    """The images of a split in the order of their ids, each with all its expressions.

    Args:
        dataset: holds the images.
        split: name of the split.
        needs: what the method takes.
        transform: is applied to every image at its original size. None leaves them as they are.

    Raises:
        UserError: the data set does not have the split. Taking an image raises it where the image
            is missing or damaged.
    """

    def __init__(
        self,
        dataset: ReferDataset,
        split: str,
        needs: DataNeeds,
        transform: Transform | None = None,
    ) -> None:
        self.dataset = dataset
        self.needs = needs
        self.transform = transform
        self.by_image = refs_by_image(dataset.refs_of(split))
        self.image_ids = [*self.by_image]

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
    """Return one image prepared for a method, with all expressions of some of its refs.

    Args:
        dataset: holds the masks.
        refs: at least one, all of this image.
        pixels: the image, RGB, uint8 (height, width, 3), at its original size.
        needs: what the method takes.
    """
    expressions = expressions_of(dataset, refs)
    geometry = Geometry(*pixels.shape[:2], needs.size, needs.geometry)
    return EvaluationImage(
        **vars(expressions),
        image=torch.tensor(prepare_image(pixels, geometry, needs.mean)),
        geometry=geometry,
    )
