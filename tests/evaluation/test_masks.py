"""Run-length codes against pycocotools, and what is refused."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco

from benchmark.evaluation.masks import decode, encode, overlap


def random_mask(seed, height=13, width=7):
    return np.random.default_rng(seed).random((height, width)) > 0.6


@pytest.mark.parametrize(
    "mask", [random_mask(0), random_mask(1, 1, 1), np.zeros((5, 8), bool), np.ones((5, 8), bool)]
)
def test_what_is_encoded_is_decoded_again(mask):
    rle = encode(mask)
    assert json.loads(json.dumps(rle)) == rle
    again = decode(rle)
    assert again.dtype == bool and again.flags.c_contiguous
    np.testing.assert_array_equal(again, mask)
    np.testing.assert_array_equal(coco.decode(rle), mask)
    assert encode(mask.astype(np.uint8)) == rle


def test_overlap_counts_pixels():
    one, two = random_mask(2), random_mask(3)
    expected = int((one & two).sum()), int((one | two).sum())
    assert overlap(one, two) == overlap(one, two.astype(np.uint8)) == expected


RLE = encode(random_mask(4))


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ("text", "has the entries"),
        ({"size": [13, 7]}, "has the entries"),
        (RLE | {"size": [13]}, r"is \[height, width\]"),
        (RLE | {"size": [13, 0]}, r"is \[height, width\]"),
        (RLE | {"size": [13.0, 7]}, r"is \[height, width\]"),
        (RLE | {"size": 13}, r"is \[height, width\]"),
        (RLE | {"counts": [91]}, "are a text"),
        (RLE | {"counts": ""}, "do not add up"),
        (RLE | {"counts": RLE["counts"][:-2]}, "do not add up"),
        (RLE | {"size": [14, 7]}, "do not add up"),
        (RLE | {"counts": RLE["counts"] + "9"}, "."),
        (RLE | {"size": [12, 7]}, "."),
        (RLE | {"counts": "é"}, "."),
        (RLE | {"counts": "o" * 50}, "."),
    ],
)
def test_a_damaged_code_is_refused(rle, message):
    with pytest.raises(ValueError, match=message):
        decode(rle)
