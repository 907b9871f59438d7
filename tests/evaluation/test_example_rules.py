"""Rules on a set of boxes whose answers are known, and what seeds and counts do."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.data.refer import ImageInfo, ReferDataset
from benchmark.data.refs import Ref, Sentence
from benchmark.evaluation.example_rules import RULES, Split, Wanted, choose, covered_share

# Image 1 has two cats side by side, image 2 a cat behind a dog, image 3 a dog alone and far from a
# cat, and image 4 a group of two dogs.
BOXES = {  # annotation -> image, category, left, top, width, height
    11: (1, 7, 0, 0, 10, 10),
    12: (1, 7, 20, 0, 10, 10),
    21: (2, 7, 0, 0, 20, 20),
    22: (2, 8, 10, 0, 10, 15),
    31: (3, 8, 0, 0, 10, 10),
    32: (3, 7, 30, 30, 10, 10),
    41: (4, 8, 0, 0, 10, 10),
    42: (4, 8, 20, 20, 10, 10),
}
SENTENCES = {
    1: ("left cat", "the cat that sits on the left of the picture"),
    2: ("cat", "the cat behind"),
    3: ("dog", "the dog"),
    4: ("dogs", "both dogs"),
    5: ("nothing",),
}


def polygon(left, top, width, height):
    right, bottom = left + width, top + height
    return [np.array([left, top, right, top, right, bottom, left, bottom], float)]


@pytest.fixture(scope="module")
def dataset():
    named = {1: (11,), 2: (21,), 3: (31,), 4: (41, 42), 5: ()}
    refs = tuple(
        Ref(
            ref_id=number,
            ann_ids=ann_ids,
            image_id=min(number, 4),
            category_id=7,
            split="val",
            sentences=tuple(
                Sentence(10 * number + place, text, text)
                for place, text in enumerate(SENTENCES[number])
            ),
        )
        for number, ann_ids in named.items()
    )
    return ReferDataset(
        name="made",
        split_by="up",
        images={number: ImageInfo(number, Path("x"), 40, 40) for number in range(1, 5)},
        refs=refs,
        segmentations={ann_id: polygon(*box[2:]) for ann_id, box in BOXES.items()},
        annotation_image={ann_id: box[0] for ann_id, box in BOXES.items()},
        annotation_category={ann_id: box[1] for ann_id, box in BOXES.items()},
        categories={7: "cat", 8: "dog"},
        folder=Path("x"),
        sources=(),
    )


@pytest.fixture(scope="module")
def ious(dataset):
    """Return IoUs: the strategy gains on image 1, loses on image 2, and fails on image 3."""
    values = {
        10: (0.1, 0.9),
        11: (0.2, 0.8),
        20: (0.9, 0.3),
        21: (0.8, 0.6),
        30: (0.4, 0.45),
        31: (0.2, 0.49),
        40: (0.5, 0.5),
        41: (0.6, 0.6),
        50: (0.7, 0.7),
    }
    about = {
        sentence.sent_id: (ref.image_id, sentence.sent)
        for ref in dataset.refs
        for sentence in ref.sentences
    }
    rows = [
        {
            "sent_id": sent_id,
            "image_id": about[sent_id][0],
            "sentence": about[sent_id][1],
            "reference": before,
            "other": after,
            "difference": after - before,
        }
        for sent_id, (before, after) in values.items()
    ]
    return pd.DataFrame(rows)


def chosen(dataset, ious, *rules, count=9, seed=0, sent_ids=()):
    split = Split.of(dataset, "val", seed)
    return choose(Wanted(rules, count, sent_ids, seed), ious, split)


def test_gains_and_losses_come_in_their_order_and_no_image_twice(dataset, ious):
    gains = chosen(dataset, ious, "largest gain")
    assert gains == [("largest gain", 10), ("largest gain", 31)]
    assert chosen(dataset, ious, "largest gain", count=1) == gains[:1]
    assert chosen(dataset, ious, "largest loss") == [("largest loss", 20)]


def test_both_fail_below_one_half(dataset, ious):
    ((_, sent_id),) = chosen(dataset, ious, "both fail")
    assert sent_id in (30, 31)


def test_occluded_is_what_others_cover(dataset, ious):
    """The dog covers 10 x 15 of the cat's 20 x 20 pixels, and nothing else is covered."""
    refs = {ref.ref_id: ref for ref in dataset.refs}
    shares = {number: covered_share(dataset, ref) for number, ref in refs.items()}
    assert shares == {1: 0, 2: 150 / 400, 3: 0, 4: 0, 5: 0}
    ((_, sent_id),) = chosen(dataset, ious, "occluded")
    assert sent_id in (20, 21)


def test_two_of_a_kind_is_one_of_several_of_a_category(dataset, ious):
    """Both dogs together are all of their kind, and the dog of image 3 is the only one."""
    ((_, sent_id),) = chosen(dataset, ious, "two of a kind")
    assert sent_id in (10, 11)


def test_long_sentences_are_the_longest_tenth(dataset, ious):
    assert chosen(dataset, ious, "long sentence") == [("long sentence", 11)]


def test_the_first_of_every_rule_comes_first(dataset, ious):
    both = chosen(dataset, ious, "largest gain", "largest loss")
    assert both == [("largest gain", 10), ("largest loss", 20), ("largest gain", 31)]


def test_a_seed_decides_what_is_drawn_and_not_the_strategies(dataset, ious):
    def drawn(seed, its=ious):
        return chosen(dataset, its, "both fail", "two of a kind", seed=seed)

    assert drawn(3) == drawn(3, ious.sample(frac=1, random_state=0))
    assert len({tuple(drawn(seed)) for seed in range(12)}) > 1
    # Other strategies with other IoUs see the same expression of two of a kind.
    others = ious.assign(reference=0.1, other=0.2, difference=0.1)
    assert drawn(3)[-1] == chosen(dataset, others, "two of a kind", seed=3)[0]


def test_named_expressions_replace_rules(dataset, ious):
    assert chosen(dataset, ious, *RULES, sent_ids=(41, 999)) == [("chosen", 41)]
