"""What a sampler cannot draw is said before it looks for it without end."""

import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.data import datasets
from benchmark.data.images import EvaluationImages
from benchmark.data.refer import read_refer
from benchmark.data.samples import TrainingSamples
from benchmark.data.tokenizers import trained_tokenizer
from methods.config import DataNeeds
from tests.data.layouts import BOXES as SHOWN
from tests.data.layouts import mask_of, write_grefcoco
from tests.data.refer_files import box, ref, write

BOXES = [[box(1, 1, 9, 9)], [box(20, 1, 29, 9)]]


NEEDS = DataNeeds(
    size=32,
    geometry="square",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    text_field="sent",
    tokenizer="bert",
    max_length=5,
    negatives=2,
)


def of(dataset):
    return TrainingSamples(dataset, "train", NEEDS, trained_tokenizer("bert", ["a box"]), 0)


def samples(root, refs):
    return of(read_refer(write(root, refs, BOXES), "refcoco", "unc"))


def test_sentences_that_are_all_alike_have_no_negatives(tmp_path):
    with pytest.raises(UserError, match="all sentences of train in refcoco are alike"):
        samples(tmp_path, [ref(0, sentences=("a box", "a box"))])


@pytest.mark.parametrize(
    "refs",
    [
        [ref(0, sentences=("a box", "the box"))],
        # Another referent of the same image gives a negative, whatever is said of it.
        [ref(0, sentences=("a box",)), ref(1, ann_id=11, sentences=("a box",))],
    ],
)
def test_where_there_is_one_they_are_drawn(refs, tmp_path):
    its = samples(tmp_path, refs)
    assert [len(its.negatives(unit, 0)) for unit in range(len(its))] == [2] * len(its)


def test_the_target_of_an_expression_that_names_nothing_is_empty(tmp_path):
    its = of(datasets.read("grefcoco", "unc", write_grefcoco(tmp_path)))
    assert [unit.ann_ids for unit in its.units] == [(10,), (10, 11), ()]
    one, both, none = its.batch([0, 1, 2], 0).targets.numpy()
    assert not none.any() and one.any() and both.sum() > one.sum()
    # Whatever is said of other objects, or of none, is a negative.
    assert set(its.negatives(2, 0)) <= {"the left box", "both", "all boxes"}


def test_the_ground_truth_of_an_expression_that_names_nothing_is_empty(tmp_path):
    dataset = datasets.read("grefcoco", "unc", write_grefcoco(tmp_path))
    (image,) = EvaluationImages(dataset, "testB", NEEDS)
    truths = [image.masks[ref.ann_ids] for ref in image.refs]
    expected = [mask_of(SHOWN[0]), *[mask_of(*SHOWN)] * 2, mask_of()]
    assert len(image.sentences) == 4
    np.testing.assert_array_equal(truths, expected)
