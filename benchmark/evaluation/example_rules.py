"""Rules by which expressions are chosen for a look.

Every rule puts expressions in an order, and the first ones of different images are taken. Where a
rule has no order of its own, a seed gives one. It is the same for all methods, so that their masks
can be seen side by side. The rules follow the figures of MaskRIS (Figs. 5, 7, C and D).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from benchmark.base.rng import generator
from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref

CHOSEN = "chosen"  # stands for a rule where the user names expressions
FAILED = 0.5  # An IoU below this is a failure, as in P@0.5.
COVERED = 0.2  # share of a referent's box that others cover where it counts as occluded
LONG = 0.9  # quantile of the lengths above which a sentence is long


@dataclasses.dataclass(frozen=True)
class Split:
    """The expressions of a split.

    Attributes:
        dataset: holds the annotations.
        refs: sent_id -> its ref.
        name: of the split in the data set.
        seed: decides what is drawn at random.
    """

    dataset: ReferDataset
    refs: dict[int, Ref]
    name: str
    seed: int

    @classmethod
    def of(cls, dataset: ReferDataset, name: str, seed: int) -> Split:
        """Return a split of a data set.

        Raises:
            UserError: the data set has no such split.
        """
        refs = {
            sentence.sent_id: ref for ref in dataset.refs_of(name) for sentence in ref.sentences
        }
        return cls(dataset, refs, name, seed)

    def shuffled(self, rule: str) -> list[int]:
        """Return all sent_ids in the random order of a rule."""
        dataset = self.dataset
        rng = generator("examples", self.seed, rule, dataset.name, dataset.split_by, self.name)
        return rng.permutation(sorted(self.refs)).tolist()


Order = Callable[[pd.DataFrame, Split], Iterator[int]]


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule by which expressions are chosen.

    Attributes:
        meaning: says in a few words which expressions these are.
        order: yields them in their order, from the IoUs of a pair of strategies
            (`examples.Pair.ious`) and the split.
    """

    meaning: str
    order: Order


def largest_gain(ious: pd.DataFrame, split: Split) -> Iterator[int]:
    """Yield the expressions on which the strategy gains, the largest gain first."""
    gains = ious[ious["difference"] > 0]
    yield from gains.sort_values(["difference", "sent_id"], ascending=[False, True])["sent_id"]


def largest_loss(ious: pd.DataFrame, split: Split) -> Iterator[int]:
    """Yield the expressions on which the strategy loses, the largest loss first."""
    losses = ious[ious["difference"] < 0]
    yield from losses.sort_values(["difference", "sent_id"])["sent_id"]


def both_fail(ious: pd.DataFrame, split: Split) -> Iterator[int]:
    """Yield expressions on which both strategies fail, whose mean IoUs are below FAILED."""
    failed = ious.loc[ious[["reference", "other"]].max(axis=1) < FAILED, "sent_id"]
    yield from _those(split.shuffled("both fail"), {*failed})


def occluded(ious: pd.DataFrame, split: Split) -> Iterator[int]:
    """Yield expressions whose referent other objects are in front of, or may be.

    Annotations do not say what is in front. An expression counts where the masks of other annotated
    objects of the image cover at least the share COVERED of the bounding box of its referent.
    """
    for sent_id in split.shuffled("occluded"):
        if covered_share(split.dataset, split.refs[sent_id]) >= COVERED:
            yield sent_id


def two_of_a_kind(ious: pd.DataFrame, split: Split) -> Iterator[int]:
    """Yield expressions about one object of an image that has another one of the same category."""
    category = split.dataset.annotation_category
    for sent_id in split.shuffled("two of a kind"):
        ref = split.refs[sent_id]
        kinds = {category[ann_id] for ann_id in ref.ann_ids}
        others = {category[ann_id] for ann_id in _others(split.dataset, ref)}
        if len(ref.ann_ids) == 1 and kinds & others:
            yield sent_id


def long_sentence(ious: pd.DataFrame, split: Split) -> Iterator[int]:
    """Yield the expressions that have more words than nine tenths of the split, or as many."""
    words = ious["sentence"].str.split().str.len()
    long = ious.loc[words >= np.quantile(words, LONG), "sent_id"]
    yield from _those(split.shuffled("long sentence"), {*long})


RULES = {
    "largest gain": Rule("the IoU rises most", largest_gain),
    "largest loss": Rule("the IoU falls most", largest_loss),
    "both fail": Rule(f"both IoUs are below {100 * FAILED:.0f} %, drawn at random", both_fail),
    "occluded": Rule(
        f"others cover at least {100 * COVERED:.0f} % of the referent's box, drawn at random",
        occluded,
    ),
    "two of a kind": Rule(
        "the image has another object of the referent's category, drawn at random", two_of_a_kind
    ),
    "long sentence": Rule("among the longest tenth, drawn at random", long_sentence),
}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which expressions are wanted.

    Attributes:
        rules: names of rules, each of which chooses some.
        count: how many each of them chooses at most.
        sent_ids: expressions that are wanted by their number, in place of rules.
        seed: decides what is drawn at random.
    """

    rules: Sequence[str] = tuple(RULES)
    count: int = 3
    sent_ids: Sequence[int] = ()
    seed: int = 0


def choose(wanted: Wanted, ious: pd.DataFrame, split: Split) -> list[tuple[str, int]]:
    """Return rule and sent_id of the wanted expressions, the first one of every rule first.

    A rule takes no image twice. Of the wanted numbers, those that the split holds are returned.

    Args:
        wanted: says which.
        ious: one row per expression of the split, as `examples.Pair.ious` returns it.
        split: the expressions.
    """
    if wanted.sent_ids:
        return [(CHOSEN, sent_id) for sent_id in wanted.sent_ids if sent_id in split.refs]
    ranked: list[tuple[int, str, int]] = []
    for rule in wanted.rules:
        by_image: dict[int, int] = {}
        for sent_id in RULES[rule].order(ious, split):
            by_image.setdefault(split.refs[sent_id].image_id, int(sent_id))
            if len(by_image) == wanted.count:
                break
        ranked += [(rank, rule, sent_id) for rank, sent_id in enumerate(by_image.values())]
    # The sort is stable, so rules keep their order within a rank.
    return [(rule, sent_id) for _, rule, sent_id in sorted(ranked, key=lambda entry: entry[0])]


def covered_share(dataset: ReferDataset, ref: Ref) -> float:
    """Return the share of a referent's bounding box that masks of other objects cover.

    It is 0 where the ref names nothing.
    """
    others = _others(dataset, ref)
    target = dataset.target(ref)
    if not others or not target.any():
        return 0.0
    left, top, width, height = coco_mask.toBbox(coco_mask.encode(np.asfortranarray(target)))
    box = np.s_[int(top) : int(top + height), int(left) : int(left + width)]
    covers = np.any([dataset.mask(ann_id)[box] for ann_id in others], axis=0)
    return float(covers.mean())


def _others(dataset: ReferDataset, ref: Ref) -> list[int]:
    """Return the annotations of a ref's image that it does not name."""
    # An image about which nothing is said that is in it may have no annotation.
    every = dataset.annotations_of.get(ref.image_id, [])
    return [ann_id for ann_id in every if ann_id not in ref.ann_ids]


def _those(sent_ids: list[int], wanted: set[int]) -> Iterator[int]:
    return (sent_id for sent_id in sent_ids if sent_id in wanted)
