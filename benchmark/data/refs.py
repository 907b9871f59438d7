"""Refs, which say what expressions refer to, and the files that hold them.

    refs(<split_by>).p        a pickled list of dicts, written by Python 2 (REFER)
    grefs(<split_by>).json    the same list as JSON (gRefCOCO), where a ref may name any number of
                              annotations

The `ann_id` of a ref is a number, or a text in RefCLEF. It is a list where expressions may name
several objects or none, and gRefCOCO writes [-1] for none.
"""

import dataclasses
import operator
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.files import describe_error, read_json
from benchmark.data.pickles import read_pickle
from benchmark.data.segmentations import text

NO_TARGET = -1  # annotation id of a ref whose expressions name nothing in the image
SEVERAL_TESTS = re.compile(r"test[A-Z]{2,}")


@dataclasses.dataclass(frozen=True, slots=True)
class Sentence:
    """One referring expression.

    Attributes:
        sent_id: its number in the data set.
        sent: the expression in lower case and cleaned.
        raw: the expression as it was written.
    """

    sent_id: int
    sent: str
    raw: str


@dataclasses.dataclass(frozen=True, slots=True)
class Ref:
    """What some expressions refer to.

    Attributes:
        ref_id: its number in the data set.
        ann_ids: annotations of the image. Most data sets have one per ref. There is none where the
            expressions name nothing in the image.
        image_id: COCO's.
        category_id: COCO's, that of the first annotation if there are several.
        split: what the file says of the splits that it belongs to.
        sentences: the expressions, at least one.
    """

    ref_id: int
    ann_ids: tuple[int, ...]
    image_id: int
    category_id: int
    split: str
    sentences: tuple[Sentence, ...]

    @property
    def ann_id(self) -> int:
        """The annotation, or the first of several, or NO_TARGET where there is none."""
        return self.ann_ids[0] if self.ann_ids else NO_TARGET

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that it belongs to. As in REFER, `testAB` stands for testA and testB."""
        if SEVERAL_TESTS.fullmatch(self.split):
            return tuple(f"test{letter}" for letter in self.split.removeprefix("test"))
        return (self.split,)


def read_refs(path: Path, ann_ids: Mapping[str, int]) -> tuple[tuple[Ref, ...], int]:
    """Return the refs of a file that have sentences, and the number of those that have none.

    Args:
        path: of the file.
        ann_ids: the number of each annotation whose id is a text.

    Raises:
        UserError: the file cannot be read, is damaged, or holds no ref.
    """
    records = read_json(path) if path.suffix == ".json" else read_pickle(path)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        what = "a list of other things"
        if not isinstance(records, list):
            what = f"a {type(records).__name__}"
        raise UserError(
            f"{path} holds {what} and not a list of refs (dicts): get REFER's own file."
        )
    if not records:
        raise UserError(f"{path} holds an empty list: get REFER's own file.")
    refs: list[Ref] = []
    for index, record in enumerate(records):
        try:
            if record["sentences"] != []:
                refs.append(_ref(record, ann_ids))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: ref number {index} is damaged ({describe_error(error)}): get the file"
                " again."
            ) from error
    if not refs:
        raise UserError(f"{path} holds no ref with a sentence: get REFER's own file.")
    ref_ids = Counter(ref.ref_id for ref in refs)
    sent_ids = Counter(sentence.sent_id for ref in refs for sentence in ref.sentences)
    for what, ids in (("ref_id", ref_ids), ("sent_id", sent_ids)):
        number, count = ids.most_common(1)[0]
        if count > 1:
            raise UserError(
                f"{path} has {count} times the {what} {number}, which must be one alone: get the"
                " file again."
            )
    return tuple(refs), len(records) - len(refs)


def _ref(record: dict[str, Any], ann_ids: Mapping[str, int]) -> Ref:
    sentences = tuple(
        Sentence(operator.index(entry["sent_id"]), text(entry["sent"]), text(entry["raw"]))
        for entry in record["sentences"]
    )
    named = [_ann_id(value, ann_ids) for value in _listed(record["ann_id"])]
    categories = _listed(record["category_id"]) or [NO_TARGET]
    return Ref(
        ref_id=operator.index(record["ref_id"]),
        ann_ids=tuple(ann_id for ann_id in named if ann_id != NO_TARGET),
        image_id=operator.index(record["image_id"]),
        category_id=operator.index(categories[0]),
        split=text(record["split"]),
        sentences=sentences,
    )


def _listed(value: Any) -> list[Any]:
    return [*value] if isinstance(value, list | tuple) else [value]


def _ann_id(value: Any, ann_ids: Mapping[str, int]) -> int:
    if not isinstance(value, str):
        return operator.index(value)
    if value not in ann_ids:
        raise ValueError(f"its annotation '{value:.40}' is not in instances.json")
    return ann_ids[value]
