"""Published protocols: CRIS' against its fixture, all against their definitions."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from benchmark.base.errors import UserError
from benchmark.base.geometry import Geometry
from benchmark.base.rng import generator
from benchmark.evaluation import published, published_scores
from benchmark.evaluation.published import Measurement
from benchmark.evaluation.records import Prediction
from tests.helpers import PROJECT
from tests.parity import fill

ARCHIVE = np.load(PROJECT / "tests" / "parity" / "fixtures" / "letterbox.npz")
NOTES = json.loads(str(ARCHIVE["notes"]))
SENTENCES = (0, 1, 1, 2, 2, 2)  # the picture that each published sentence is about


class Masks:
    """A data set that has nothing but the parts of one annotation."""

    def __init__(self, *parts: np.ndarray) -> None:
        self._parts = [np.asfortranarray(part.astype(np.uint8)) for part in parts]

    def target(self, ref):
        return np.any(self._parts, axis=0).astype(np.uint8)

    def parts(self, ann_id):
        return [coco_mask.encode(part) for part in self._parts]


def prediction(geometry, *logits):
    refs = [SimpleNamespace(ann_ids=(1,))] * len(logits)
    sentences = [SimpleNamespace(sent_id=number) for number in range(len(logits))]
    image = SimpleNamespace(image_id=7, geometry=geometry, refs=refs, sentences=sentences)
    return Prediction(image, [], list(logits))


def score(protocol, intersection, union):
    counts = pd.DataFrame({"intersection": intersection, "union": union})
    return published_scores.numbers(counts, published_scores.SCORES[protocol])


@pytest.mark.parametrize("sentence", [0, 1, 2])
def test_cris_probabilities_are_the_published_ones(sentence):
    geometry = Geometry(*NOTES["sizes"][SENTENCES[sentence]], 64, "letterbox")
    found = published.cris_probability(
        torch.from_numpy(ARCHIVE["eval_in_logits"][sentence, 0]), geometry
    )
    np.testing.assert_allclose(
        found, ARCHIVE[f"eval_prob_{sentence}"], atol=0.007
    )  # OpenCV 4 and 5 differ by 0.006


def test_cris_numbers_are_the_published_ones():
    """The script's IoU of every sentence, its mean and its precisions, from the same logits."""
    counts, ious = [], []
    for sentence, picture in enumerate(SENTENCES):
        height, width = NOTES["sizes"][picture]
        measured = Measurement(
            published.get("cris", "letterbox"), Masks(fill.mask(1, height, width)[0])
        )
        measured.add(
            prediction(
                Geometry(height, width, 64, "letterbox"),
                torch.from_numpy(ARCHIVE["eval_in_logits"][sentence, 0]),
            )
        )
        counts += measured.counts
        ious.append(measured.numbers()["miou"])
    np.testing.assert_allclose(
        ious, NOTES["ious"], atol=2e-3
    )  # a pixel at the threshold, between OpenCV 4 and 5
    whole = score("cris", *np.array(counts).T)
    assert whole["miou"] == pytest.approx(NOTES["mean_iou"], abs=1e-3)
    for threshold in (50, 60, 70, 80, 90):
        assert whole[f"p_{threshold}"] == pytest.approx(NOTES["prec"][f"Pr@{threshold}"], abs=1e-6)
    assert "oiou" not in whole


def test_an_iou_at_the_threshold_counts_for_lavt_and_not_for_cris():
    intersection, union = np.array([5, 6]), np.array([10, 10])
    assert score("lavt", intersection, union)["p_50"] == 1
    assert score("cris", intersection, union)["p_50"] == 0.5
    assert set(score("caris", intersection, union)) == {
        "oiou",
        "miou",
        "p_50",
        "p_70",
        "p_90",
    }


def test_an_empty_union_is_zero_for_lavt_and_no_number_for_caris():
    intersection, union = np.array([0, 4]), np.array([0, 4])
    assert score("lavt", intersection, union)["miou"] == 0.5
    assert np.isnan(score("caris", intersection, union)["miou"])


@pytest.mark.parametrize("name", ["lavt", "caris"])
def test_square_protocols_compare_at_the_input_size(name):
    """The argmax at input size and the nearest-resized mask, with parts as each code takes them."""
    geometry = Geometry(90, 60, 32, "square")
    left, right = np.zeros((2, 90, 60), bool)
    left[10:70, 5:40], right[30:80, 30:55] = True, True
    logits = torch.from_numpy(generator("protocols").standard_normal((8, 8), dtype=np.float32))
    measured = Measurement(published.get(name, "square"), Masks(left, right))
    measured.add(prediction(geometry, logits))
    truth = left ^ right if name == "lavt" else left | right
    truth = np.asarray(
        Image.fromarray(truth.astype(np.uint8)).resize((32, 32), Image.Resampling.NEAREST)
    ).astype(bool)
    two_class = torch.stack([torch.zeros_like(logits), logits])[None]
    mask = (
        torch.nn.functional.interpolate(two_class, (32, 32), mode="bilinear", align_corners=True)
        .argmax(1)[0]
        .numpy()
    )
    assert measured.counts == [(int((mask & truth).sum()), int((mask | truth).sum()))]


def test_a_protocol_of_another_geometry_is_refused():
    with pytest.raises(UserError, match="take --protocol caris or lavt"):
        published.get("cris", "square")
    with pytest.raises(UserError, match="did you mean caris or cris|did you mean cris"):
        published.get("criss", "letterbox")
