"""Masks against independent rasterisers, in every form that COCO's annotations have."""

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from benchmark.base.errors import UserError
from benchmark.data.refer import read_refer
from benchmark.data.segmentations import parts, read_segmentation
from tests.data.refer_files import HEIGHT, MINI, WIDTH, box, needs_mini, write


def box_mask(*boxes):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 1
    return mask


def run_lengths(mask):
    """Column-major run lengths, zeros first, counted with NumPy alone."""
    flat = np.concatenate([[0], mask.flatten(order="F")])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff([0, *edges, mask.size]).tolist()


def test_the_mask_is_the_union_of_its_parts(tmp_path):
    parts = [(2, 3, 20, 10), (10, 5, 30, 35), (50, 30, 60, 40)]
    dataset = read_refer(
        write(tmp_path, segmentations=[[box(*part) for part in parts]]), "refcoco", "unc"
    )
    mask = dataset.mask(10)
    assert mask.dtype == np.uint8 and mask.flags.c_contiguous
    np.testing.assert_array_equal(mask, box_mask(*parts))


@pytest.mark.parametrize("form", ["crowd", "compressed", "list", "list of two"])
def test_run_lengths_in_every_form_give_the_same_mask(tmp_path, form):
    first, second = box_mask((0, 0, 7, 9)), box_mask((5, 4, 33, 21))
    expected = second if form != "list of two" else first | second
    rle = {"size": [HEIGHT, WIDTH], "counts": run_lengths(second)}
    value = {
        "crowd": rle,
        "compressed": {
            **rle,
            "counts": coco_mask.encode(np.asfortranarray(second))["counts"].decode(),
        },
        "list": [rle],
        "list of two": [{**rle, "counts": run_lengths(first)}, rle],
    }[form]
    dataset = read_refer(write(tmp_path, segmentations=[value]), "refcoco", "unc")
    np.testing.assert_array_equal(dataset.mask(10), expected)


@pytest.mark.parametrize("degenerate", [[], [1, 2], [1, 2, 30, 30]])
def test_a_polygon_of_fewer_than_three_points_is_no_part(tmp_path, degenerate):
    # Two points come first: pycocotools would take them, and then all parts, for boxes.
    values = [[degenerate, box(5, 6, 20, 30)], [degenerate], []]
    dataset = read_refer(write(tmp_path, segmentations=values), "refcoco", "unc")
    np.testing.assert_array_equal(dataset.mask(10), box_mask((5, 6, 20, 30)))
    assert not dataset.mask(11).any() and not dataset.mask(12).any()
    assert dataset.mask(12).shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "value",
    [
        {"size": [HEIGHT, WIDTH], "counts": [10, 20]},
        {"size": [HEIGHT, WIDTH], "counts": [-10, HEIGHT * WIDTH + 10]},
        {"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": "zzzzzzzz"},
        {"size": [HEIGHT, WIDTH], "counts": "12"},
        {"counts": [1]},
        [[1, 2, 3, 4, 5, 6, 7]],
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        [[0, 0, float("nan"), 0, 1, 1]],
        [1, 2, 3, 4, 5, 6],
    ],
)
def test_a_damaged_segmentation_is_named(tmp_path, value):
    dataset = read_refer(write(tmp_path, segmentations=[value]), "refcoco", "unc")
    with pytest.raises(UserError, match="Annotation 10 of refcoco"):
        dataset.mask(10)


@needs_mini
def test_masks_of_coco_mini_agree_with_opencv_and_with_run_lengths_by_hand():
    dataset = read_refer(MINI, "refcoco", "unc")
    raw = json.loads((MINI / "refcoco" / "instances.json").read_text())["annotations"]
    crowds = [entry for entry in raw if entry["iscrowd"]]
    for entry in crowds:
        height, width = entry["segmentation"]["size"]
        counts = entry["segmentation"]["counts"]
        by_hand = np.repeat(np.arange(len(counts)) % 2, counts).reshape(width, height).T
        np.testing.assert_array_equal(dataset.mask(entry["id"]), by_hand)
    parts = [
        entry
        for entry in raw
        if not entry["iscrowd"] and len(entry["segmentation"]) > 1 and entry["area"] > 4000
    ]
    assert len(crowds) > 10 and len(parts) > 10
    for entry in parts:
        info = dataset.images[entry["image_id"]]
        filled = np.zeros((info.height, info.width), np.uint8)
        for polygon in entry["segmentation"]:
            cv2.fillPoly(filled, [np.round(np.reshape(polygon, (-1, 2)) - 0.5).astype(np.int32)], 1)
        mask = dataset.mask(entry["id"])
        # The two draw edges differently by up to a pixel.
        assert (mask & filled).sum() / (mask | filled).sum() > 0.85


def test_an_outline_that_would_fill_the_memory_is_refused():
    far = [0.0, 0.0, 9e5, 9e5] * 100
    with pytest.raises(ValueError, match="far longer"):
        parts(read_segmentation([far]), 40, 60)
