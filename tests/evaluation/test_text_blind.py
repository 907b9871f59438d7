"""The numbers without text, against closed forms."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmark.base.geometry import Geometry
from benchmark.evaluation.records import Prediction
from benchmark.evaluation.text_blind import TextBlindBaseline
from benchmark.evaluation.text_blind_masks import GRID, TextBlindMasks, best_constant


def box(top, left, side, size=GRID):
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_the_best_constant_for_one_truth_is_that_truth():
    assert best_constant(np.stack([box(10, 20, 30)] * 4)) == pytest.approx(1)


def test_the_best_constant_weighs_the_truths():
    # Three times one box, once a box far away: the common one gives 3/4, both together 1/2 each.
    truths = np.stack([box(0, 0, 20)] * 3 + [box(60, 60, 20)])
    assert best_constant(truths) == pytest.approx(0.75)
    nested = np.stack([box(0, 0, 40), box(0, 0, 20)])
    assert best_constant(nested) == pytest.approx((1 + 0.25) / 2)


def test_text_blind_maps_are_decided_once_for_an_image():
    left, right = box(0, 0, 8, 16), box(0, 8, 8, 16)
    maps = [torch.where(torch.from_numpy(mask), 4.0, -1.0) for mask in (left, right)]
    refs = [SimpleNamespace(ann_ids=(1,)), SimpleNamespace(ann_ids=(2,))]
    image = SimpleNamespace(
        geometry=Geometry(16, 16, 16, "square"),
        refs=refs,
        masks={(1,): left.astype(np.uint8), (2,): right.astype(np.uint8)},
    )
    baseline = TextBlindBaseline(
        SimpleNamespace(mask=lambda logits, geometry: (logits > 0).numpy())
    )
    baseline.add(Prediction(image, [], maps))
    numbers = baseline.numbers()
    assert numbers["mean"] == numbers["max"] == pytest.approx(0.5), (
        "both halves for either sentence"
    )
    assert numbers["constant"] == pytest.approx(0.5)
    quiet = TextBlindBaseline(SimpleNamespace(mask=lambda logits, geometry: (logits > 2).numpy()))
    quiet.add(Prediction(image, [], maps))
    assert quiet.numbers()["mean"] == 0 and quiet.numbers()["max"] == pytest.approx(0.5)


def test_masks_of_an_image_stand_for_each_other_by_most_and_by_any_of_them():
    """Three masks of four pixels, of which each object marks one: counted by hand."""
    truths = {(1,): np.array([[1, 0, 0, 0]], np.uint8), (2,): np.array([[0, 1, 1, 0]], np.uint8)}
    refs = [SimpleNamespace(ann_ids=its) for its in ((1,), (1,), (2,))]
    image = SimpleNamespace(refs=refs, masks=truths)
    masks = [np.array([row], bool) for row in ([1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0])]
    baseline = TextBlindMasks()
    baseline.add(Prediction(image, masks, []))
    # Most masks mark the first two pixels, and one of them a third one.
    assert baseline.numbers()["mean"] == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert baseline.numbers()["max"] == pytest.approx((1 / 3 + 1 / 3 + 2 / 3) / 3)
