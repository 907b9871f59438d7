"""Conventional augmentation changes image and mask alike, by keyed draws."""

import numpy as np
import pytest
import torch

from benchmark.base.rng import generator
from benchmark.data.samples import RawBatch
from benchmark.strategies.augmentation import CROP_AREA, augment
from methods.contract import Text

SIDE = 64


@pytest.fixture
def raw():
    """Return pictures that are their own mask: white where the target is, grey elsewhere."""
    targets = np.zeros((6, SIDE, SIDE), np.uint8)
    for number, target in enumerate(targets):
        top, left = generator("boxes", number).integers(4, 30, size=2)
        target[top : top + 24, left : left + 18] = 255
    images = torch.from_numpy(targets)[..., None].expand(-1, -1, -1, 3).clamp(min=64).contiguous()
    text = Text(torch.zeros(6, 4, dtype=torch.long), torch.ones(6, 4, dtype=torch.long))
    return RawBatch(images, torch.from_numpy(targets), text, list(range(10, 16)))


@pytest.mark.parametrize("names", [("crop",), ("flip",), ("crop", "flip")])
def test_the_mask_moves_with_the_image(raw, names):
    changed = augment(raw, names, 0, 1)
    seen, meant = changed.images[..., 0] > 160, changed.targets > 127
    assert changed.images.shape == raw.images.shape and changed.images.dtype == torch.uint8
    assert not torch.equal(changed.targets, raw.targets)
    assert set(changed.targets.unique().tolist()) <= {0, 255}
    # An interpolated edge may lie a pixel beside the mask's.
    assert (seen & meant).sum() / (seen | meant).sum() > 0.93


def test_a_flip_mirrors_about_half_of_the_samples(raw):
    changed = augment(raw, ("flip",), 0, 0)
    mirrored = [
        torch.equal(new, old.flip(1)) for new, old in zip(changed.images, raw.images, strict=True)
    ]
    kept = [torch.equal(new, old) for new, old in zip(changed.images, raw.images, strict=True)]
    assert all(a or b for a, b in zip(mirrored, kept, strict=True)) and any(mirrored) and any(kept)


def test_a_crop_enlarges_what_it_keeps(raw):
    whole = RawBatch(raw.images, torch.full_like(raw.targets, 255), raw.text, raw.samples)
    assert (augment(whole, ("crop",), 0, 0).targets == 255).all()  # never beyond the image
    inside = raw.targets.clone()
    inside[:] = 0
    inside[:, 30:34, 30:34] = (
        255  # in the middle: areas grow by at most the inverse of the share that is kept
    )
    grown = (
        augment(RawBatch(raw.images, inside, raw.text, raw.samples), ("crop",), 0, 0)
        .targets.eq(255)
        .sum((1, 2))
    )
    assert all(count == 0 or 8 <= count <= 16 / CROP_AREA[0] * 1.7 for count in grown.tolist())


def test_jitter_changes_colours_alone(raw):
    coloured = RawBatch(raw.images.clone(), raw.targets, raw.text, raw.samples)
    coloured.images[..., 1] //= 2
    changed = augment(coloured, ("jitter",), 0, 0)
    assert torch.equal(changed.targets, raw.targets)
    assert not torch.equal(changed.images, coloured.images)
    for old, new in zip(coloured.images.flatten(1, 2), changed.images.flatten(1, 2), strict=True):
        # A function of the colour: pixels that were alike stay alike.
        assert len(new.unique(dim=0)) <= len(old.unique(dim=0))


def test_draws_are_keyed_by_sample(raw):
    both, names = augment(raw, ("crop", "flip", "jitter"), 3, 1), ("crop", "flip", "jitter")
    one = RawBatch(raw.images[2:3], raw.targets[2:3], raw.text[2:3], raw.samples[2:3])
    assert torch.equal(augment(one, names, 3, 1).images[0], both.images[2])
    assert not torch.equal(augment(one, names, 4, 1).images[0], both.images[2])
    assert not torch.equal(augment(one, names, 3, 2).images[0], both.images[2])


def test_without_masks_the_image_alone_changes(raw):
    blind = RawBatch(raw.images, None, raw.text, raw.samples)
    changed = augment(blind, ("crop",), 0, 0)
    assert changed.targets is None and torch.equal(
        changed.images, augment(raw, ("crop",), 0, 0).images
    )
