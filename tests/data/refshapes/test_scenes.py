"""Masks and annotations of RefShapes against its own scene descriptions."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from benchmark.data.refer import read_refer
from benchmark.data.refshapes.writer import (
    segmentation,
)
from tests.data.refshapes.reading import NAMES

RGB = {
    "red": (215, 40, 40),
    "orange": (245, 140, 25),
    "yellow": (240, 220, 50),
    "green": (45, 155, 65),
    "cyan": (60, 205, 215),
    "blue": (45, 75, 210),
    "purple": (145, 55, 175),
}


def test_masks_are_apart_visible_and_where_the_scene_says(root, scenes):
    for name in NAMES:
        dataset = read_refer(root, name, "unc")
        for image_id, scene in scenes[name]["images"].items():
            masks = np.stack([dataset.mask(thing["ann_id"]) for thing in scene["things"]])
            assert masks.sum(0).max() == 1
            for thing, mask in zip(scene["things"], masks, strict=True):
                hidden = sum(
                    other["covers"][scene["things"].index(thing)] for other in scene["things"]
                )
                assert mask.sum() > 1.2 * hidden and mask.sum() > 120
                y, x = np.nonzero(mask)
                assert thing["x"] == pytest.approx(x.mean(), abs=0.06) and thing[
                    "y"
                ] == pytest.approx(y.mean(), abs=0.06)
                if thing["fill"] == "solid":
                    pixel = np.median(dataset.image(int(image_id))[mask > 0], 0)
                    assert (
                        min(RGB, key=lambda colour: np.abs(pixel - RGB[colour]).sum())
                        == thing["colour"]
                    )


def test_covers_tell_who_lies_in_front(root, scenes):
    """An object's own pixels are its whole shape less what the others are said to hide."""
    areas = {"circle": np.pi / 4, "square": 0.7225}
    for name in NAMES:
        dataset = read_refer(root, name, "unc")
        for scene in scenes[name]["images"].values():
            for index, thing in enumerate(scene["things"]):
                assert thing["covers"][index:] == [0] * (
                    len(scene["things"]) - index
                )  # those behind come first
                if thing["shape"] in areas:
                    whole = areas[thing["shape"]] * thing["diameter"] ** 2
                    hidden = sum(other["covers"][index] for other in scene["things"])
                    assert dataset.mask(thing["ann_id"]).sum() + hidden == pytest.approx(
                        whole, rel=0.06
                    )


def test_segmentation_gives_exactly_the_mask_back():
    draw = np.random.default_rng(0)
    masks = [
        (draw.random((7, 9)) < share).astype(np.uint8)
        for share in (0.2, 0.5, 0.8)
        for _ in range(40)
    ]
    ring = np.ones((5, 6), np.uint8)
    ring[2, 2:4] = 0
    for mask in [*masks, ring, np.ones((3, 4), np.uint8)]:
        found = segmentation(mask)
        if isinstance(found, dict):
            rle = coco_mask.frPyObjects(found, *mask.shape)
        else:
            rle = coco_mask.merge(coco_mask.frPyObjects(found, *mask.shape))
        assert np.array_equal(coco_mask.decode(rle), mask)
    assert isinstance(segmentation(ring), dict) and isinstance(
        segmentation(np.ones((3, 4), np.uint8)), list
    )


def test_annotations_agree_with_their_masks(root):
    for name in NAMES:
        dataset = read_refer(root, name, "unc")
        kinds = set()
        for entry in json.loads((root / name / "instances.json").read_text())["annotations"]:
            mask = dataset.mask(entry["id"])
            assert entry["area"] == mask.sum()
            assert (
                entry["bbox"]
                == coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask))).tolist()
            )
            kinds.add(type(entry["segmentation"]))
        assert kinds == {list, dict}
