"""Occlusion: a given share of a region of the image covered in patches, with the mean colour of the image.

    image        the whole image
    referent     the referent's mask
    distractors  the masks of the image's other objects, where these do not overlap the referent
    background   what belongs to no annotated object, as many pixels as `referent` would cover: the control, which takes
                 nothing away from what the sentence is about

Patches are cells of a grid in a keyed random order, so a larger share covers all that a smaller one does; 0 covers nothing.
The image's own mean colour stands out least, and is not quite what MaskRIS masks with in training (the data sets' mean).
"""

import dataclasses
import math
import re

import numpy as np

from benchmark.base.errors import UserError, choose
from benchmark.base.rng import generator
from benchmark.data.refer import Ref, ReferDataset

TARGETS = ("image", "referent", "distractors", "background")
PATCHES_ACROSS = 6  # patches along the side of a square as large as the region


def covered(region: np.ndarray, pixels: int, *key: object) -> np.ndarray:
    """Return which pixels of a region are covered: bool (height, width), exactly `pixels` of them, or all if it has fewer.

    Args:
        region: bool (height, width). key: of the draw of the order in which its patches are covered.
    """
    inside = np.flatnonzero(region)
    side = max(1, round(math.sqrt(len(inside)) / PATCHES_ACROSS))
    rows, columns = np.unravel_index(inside, region.shape)
    cells = (rows // side) * (region.shape[1] // side + 1) + columns // side
    draw = generator("occlusion", *key)
    # The grid's cells in a random order; the pixels of a cell in reading order, so that the last patch may be cut.
    rank = draw.permutation(math.ceil(region.shape[0] / side) * (region.shape[1] // side + 1))
    order = np.argsort(rank[cells], kind="stable")
    cover = np.zeros(region.size, bool)
    cover[inside[order[:pixels]]] = True
    return cover.reshape(region.shape)


@dataclasses.dataclass(frozen=True)
class Occlusion:
    """A share of a target covered, in percent of its area; as text `referent-30`."""

    target: str
    percent: int

    def __post_init__(self) -> None:
        choose(self.target, TARGETS, "occlusion target")
        if not 0 <= self.percent <= 100:
            raise UserError(
                f"an occlusion covers 0 to 100 percent of its target, not {self.percent}."
            )

    def __str__(self) -> str:
        return f"{self.target}-{self.percent}"

    @classmethod
    def parse(cls, text: str) -> "Occlusion":
        """Return the occlusion that `text` names, e.g. `referent-30`. Raises UserError for any other text."""
        found = re.fullmatch(r"(.+)-(\d+)", text)
        if not found:
            raise UserError(
                f"'{text}' is no occlusion: write target and percent, such as referent-30."
            )
        return cls(found[1], int(found[2]))

    def views(
        self, dataset: ReferDataset, refs: list[Ref], pixels: np.ndarray
    ) -> list[tuple[np.ndarray, list[Ref]]]:
        """Return pictures of one image, uint8 (height, width, 3), each with the refs that are asked about in it."""
        colour = pixels.reshape(-1, 3).mean(0).round().astype(np.uint8)
        masks = {} if self.target == "image" else _masks(dataset, refs[0].image_id)
        by_referent: dict[int | None, list[Ref]] = {}
        for ref in refs:
            by_referent.setdefault(ref.ann_id if masks else None, []).append(ref)
        return [
            (
                np.where(
                    self.cover(masks, ann_id, pixels, refs[0].image_id)[..., None], colour, pixels
                ),
                asked,
            )
            for ann_id, asked in by_referent.items()
        ]

    def cover(
        self, masks: dict[int, np.ndarray], ann_id: int | None, pixels: np.ndarray, image_id: int
    ) -> np.ndarray:
        """Return what is covered for one referent: bool (height, width).

        Args:
            masks: all annotated objects of the image, bool (height, width) by ann_id; empty for the target `image`.
        """
        if self.target == "image":
            region = np.ones(pixels.shape[:2], bool)
            return covered(region, self._count(region), "image", image_id)
        referent = masks[ann_id]
        objects = np.any([*masks.values()], axis=0)
        region = {"referent": referent, "distractors": objects & ~referent, "background": ~objects}[
            self.target
        ]
        count = self._count(referent if self.target == "background" else region)
        return covered(region, count, self.target, image_id, ann_id)

    def _count(self, region: np.ndarray) -> int:
        return round(np.count_nonzero(region) * self.percent / 100)


def _masks(dataset: ReferDataset, image_id: int) -> dict[int, np.ndarray]:
    return {
        ann_id: dataset.mask(ann_id).astype(bool) for ann_id in dataset.annotations_of[image_id]
    }
