"""Occlusion covers a share of a region of the image in patches, with the image's mean colour.

    image        the whole image
    referent     the referent's mask
    distractors  the masks of the image's other objects, where these do not overlap the referent
    background   what belongs to no annotated object, as many pixels as `referent` would cover

`background` is the control, which takes nothing away from what the sentence is about.

The patches are cells of a grid in a keyed random order, so a larger share covers all that a smaller
one does. The image's own mean colour stands out least. It is not quite what MaskRIS masks with in
training, which is the mean of the data sets.
"""

import dataclasses
import math
import re

import numpy as np

from benchmark.base.errors import UserError, choose
from benchmark.base.rng import generator
from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref

TARGETS = ("image", "referent", "distractors", "background")
PATCHES_ACROSS = 6  # patches along the side of a square as large as the region


def covered(region: np.ndarray, pixels: int, *key: object) -> np.ndarray:
    """Return which pixels of a region are covered, bool (height, width).

    Args:
        region: bool (height, width).
        pixels: number of pixels that are covered. If the region has fewer, all of it is covered.
        key: keys the random order in which the patches of the region are covered.
    """
    inside = np.flatnonzero(region)
    side = max(1, round(math.sqrt(len(inside)) / PATCHES_ACROSS))
    rows, columns = np.unravel_index(inside, region.shape)
    cells = (rows // side) * (region.shape[1] // side + 1) + columns // side
    rng = generator("occlusion", *key)
    # The cells of the grid come in a random order, and the pixels of a cell in reading order. So
    # the last patch may be cut.
    rank = rng.permutation(math.ceil(region.shape[0] / side) * (region.shape[1] // side + 1))
    order = np.argsort(rank[cells], kind="stable")
    cover = np.zeros(region.size, bool)
    cover[inside[order[:pixels]]] = True
    return cover.reshape(region.shape)


@dataclasses.dataclass(frozen=True)
class Occlusion:
    """A share of a target is covered. Its text is like `referent-30`.

    Attributes:
        target: one of TARGETS.
        percent: share of the target's area, in 0..100.
    """

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
        """Return the occlusion that `text` names, e.g. `referent-30`.

        Raises:
            UserError: the text names none.
        """
        match = re.fullmatch(r"(.+)-(\d+)", text)
        if not match:
            raise UserError(
                f"'{text}' is no occlusion: write target and percent, such as referent-30."
            )
        return cls(match[1], int(match[2]))

    def views(
        self, dataset: ReferDataset, refs: list[Ref], pixels: np.ndarray
    ) -> list[tuple[np.ndarray, list[Ref]]]:
        """Return pictures of one image, each with the refs that are evaluated on it.

        Both the image and the pictures are RGB, uint8 (height, width, 3).
        """
        image_id = refs[0].image_id
        colour = pixels.reshape(-1, 3).mean(0).round().astype(np.uint8)
        masks: dict[int, np.ndarray] = {}
        if self.target != "image":
            annotations = dataset.annotations_of.get(image_id, [])
            masks = {ann_id: dataset.mask(ann_id).astype(bool) for ann_id in annotations}
        # Refs of one referent share a picture. The whole image is covered alike for all refs.
        by_referent: dict[tuple[int, ...], list[Ref]] = {}
        for ref in refs:
            by_referent.setdefault(ref.ann_ids if masks else (), []).append(ref)
        views = []
        for ann_ids, referent_refs in by_referent.items():
            cover = self.cover(masks, ann_ids, pixels, image_id)
            views.append((np.where(cover[..., None], colour, pixels), referent_refs))
        return views

    def cover(
        self,
        masks: dict[int, np.ndarray],
        ann_ids: tuple[int, ...],
        pixels: np.ndarray,
        image_id: int,
    ) -> np.ndarray:
        """Return what is covered for one referent, bool (height, width).

        Args:
            masks: ann_id -> mask, bool (height, width), of every annotated object of the image. It
                is not used for the target `image`.
            ann_ids: annotations of the referent, which has no pixel without any. They are not used
                for the target `image`.
            pixels: the image, uint8 (height, width, 3).
            image_id: COCO's.
        """
        if self.target == "image":
            region = np.ones(pixels.shape[:2], bool)
            return covered(region, self._count(region), "image", image_id)
        nothing = np.zeros(pixels.shape[:2], bool)
        referent = np.any([nothing, *(masks[ann_id] for ann_id in ann_ids)], axis=0)
        objects = np.any([nothing, *masks.values()], axis=0)
        regions = {
            "referent": referent,
            "distractors": objects & ~referent,
            "background": ~objects,
        }
        region = regions[self.target]
        count = self._count(referent if self.target == "background" else region)
        return covered(region, count, self.target, image_id, *ann_ids)

    def _count(self, region: np.ndarray) -> int:
        return round(np.count_nonzero(region) * self.percent / 100)
