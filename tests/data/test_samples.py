"""What a sampler cannot draw is said before it looks for it without end."""

import pytest

from benchmark.base.errors import UserError
from benchmark.data.refer import read_refer
from benchmark.data.samples import TrainingSamples
from benchmark.data.tokenizers import trained_tokenizer
from methods.config import DataNeeds
from tests.data.refer_files import box, ref, write

BOXES = [[box(1, 1, 9, 9)], [box(20, 1, 29, 9)]]


def samples(root, refs):
    dataset = read_refer(write(root, refs, BOXES), "refcoco", "unc")
    needs = DataNeeds(
        size=32,
        geometry="square",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        text_field="sent",
        tokenizer="bert",
        max_length=5,
        negatives=2,
    )
    return TrainingSamples(dataset, "train", needs, trained_tokenizer("bert", ["a box"]), 0)


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
