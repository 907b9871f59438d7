"""CRIS' letterbox and its inverse against the published ones, and the square resize against PIL."""

import json

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmark.base.geometry import Geometry, normalize, prepare_image, prepare_mask, restore
from methods.config import CLIP_MEAN, CLIP_STD
from tests.helpers import PROJECT
from tests.parity import fill

ARCHIVE = np.load(PROJECT / "tests" / "parity" / "fixtures" / "letterbox.npz")
SIZES = json.loads(str(ARCHIVE["notes"]))["sizes"]


def picture(index):
    height, width = SIZES[index]
    pixels = fill.image(1, height, width, 11 + index)[0].transpose(1, 2, 0) * 40 + 128
    return np.clip(pixels, 0, 255).astype(np.uint8)[:, :, ::-1].copy(), fill.mask(1, height, width)[
        0
    ]


@pytest.mark.parametrize("index", [0, 1])
def test_letterbox_is_the_published_one(index):
    geometry = Geometry(*SIZES[index], 64, "letterbox")
    matrix, inverse = geometry.matrices()
    np.testing.assert_allclose(matrix, ARCHIVE[f"mat_{index}"], atol=1e-5)
    np.testing.assert_allclose(inverse, ARCHIVE[f"inv_{index}"], atol=1e-5)
    image, mask = picture(index)
    prepared = normalize(
        torch.from_numpy(prepare_image(image, geometry, CLIP_MEAN))[None], CLIP_MEAN, CLIP_STD
    )[0]
    # OpenCV 4 and 5 round a few uint8 values differently: by one step of 1/255 over the
    # smallest deviation.
    step = 1 / 255 / min(CLIP_STD) + 1e-4
    difference = np.abs(prepared.numpy() - ARCHIVE[f"image_{index}"])
    assert difference.max() <= step and (difference > 1e-4).mean() < 0.01
    target = prepare_mask(mask, geometry).astype(np.float32) / 255
    np.testing.assert_allclose(target, ARCHIVE[f"mask_{index}"], atol=1 / 255 + 1e-6)
    assert 0 < ((target > 0) & (target < 1)).sum(), "CRIS' target stays soft at edges"


@pytest.mark.parametrize("sentence, index", [(0, 0), (1, 1), (2, 1)])
def test_the_inverse_letterbox_is_the_published_one(sentence, index):
    """The published evaluation with our inverse matrix gives the published probabilities."""
    height, width = SIZES[index]
    inverse = Geometry(height, width, 64, "letterbox").matrices()[1]
    probability = torch.from_numpy(ARCHIVE["eval_in_logits"][sentence])[None].sigmoid()
    at_input = F.interpolate(probability, (64, 64), mode="bicubic", align_corners=True)[
        0, 0
    ].numpy()
    original = cv2.warpAffine(
        at_input, inverse, (width, height), flags=cv2.INTER_CUBIC, borderValue=0
    )
    np.testing.assert_allclose(
        original, ARCHIVE[f"eval_prob_{sentence}"], atol=0.007
    )  # OpenCV 4 and 5 differ by 0.006


@pytest.mark.parametrize("kind", ["square", "letterbox"])
@pytest.mark.parametrize("height, width", [(60, 90), (90, 60), (64, 64)])
def test_restore_brings_a_mask_back_to_its_place(kind, height, width):
    """Image -> input -> image of a big soft disc is nearly the identity, for both geometries."""
    geometry = Geometry(height, width, 128, kind)
    y, x = np.mgrid[:height, :width]
    disc = (((y - height * 0.4) / height) ** 2 + ((x - width * 0.6) / width) ** 2 < 0.06).astype(
        np.uint8
    )
    logits = torch.from_numpy(prepare_mask(disc, geometry).astype(np.float32) / 255 - 0.5)
    back = restore(logits, geometry) > 0
    union = (back | disc.astype(bool)).sum()
    assert (back & disc.astype(bool)).sum() / union > 0.95


def test_normalizing_is_the_plain_formula_to_the_last_bit():
    pixels = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(its).view(1, 3, 1, 1) for its in (CLIP_MEAN, CLIP_STD))
    expected = (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std
    found = normalize(pixels, CLIP_MEAN, CLIP_STD)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride(), "a convolution takes it as it lies"


def test_square_resize_is_torch_antialiased_bilinear():
    image = picture(0)[0]
    ours = prepare_image(image, Geometry(96, 144, 48, "square"), CLIP_MEAN)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    reference = (
        F.interpolate(tensor, (48, 48), mode="bilinear", antialias=True)[0].permute(1, 2, 0).round()
    )
    assert np.abs(ours.astype(int) - reference.numpy().astype(int)).max() <= 1
    mask = prepare_mask(picture(0)[1], Geometry(96, 144, 48, "square"))
    assert set(np.unique(mask)) == {0, 255}
    assert np.array_equal(
        mask, cv2.resize(picture(0)[1] * 255, (48, 48), interpolation=cv2.INTER_NEAREST_EXACT)
    )
