"""Compares the masks of a file with the expressions of a split, before any of them counts.

All that is wrong with a file is counted and named in one sentence, and nothing is scored then.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.files import describe_error
from benchmark.base.texts import printable
from benchmark.data.refer import ReferDataset
from benchmark.evaluation.predicted_masks import DAMAGED, OtherSize, PredictedMasks, run_lengths
from benchmark.evaluation.prediction_files import Entry, read_entries

ONE_EXPRESSION = (("sent_id",), ("ref_id", "index"))  # what names one expression and no other
SHOWN = 3  # examples of a fault that a message names


class _Unknown(Exception):
    """An entry names no expression of the data set."""


def read_predictions(
    path: Path,
    dataset: ReferDataset,
    split: str,
    allow_missing: bool = False,
    left_out: frozenset[int] = frozenset(),
) -> PredictedMasks:
    """Return the masks of a split that a file or folder holds.

    Args:
        path: in one of the formats of `prediction_files`.
        dataset: says which expressions there are, and how large their images are.
        split: name of the split. Masks of other splits of the data set are counted alone.
        allow_missing: whether expressions may lack a mask. It counts as empty then.
        left_out: ids of images whose expressions are not wanted.

    Raises:
        UserError: there is no such split, the file cannot be read, or its masks are not those of
            the split: some are missing, double, of no expression, of another size than their
            image, or damaged. The message counts all of these and names the first ones.
    """
    reading = _Reading(dataset, split, left_out)
    for entry in read_entries(path):
        reading.add(entry)
    faults = reading.faults(allow_missing)
    if faults:
        raise UserError(
            f"{path} does not hold the masks of {split} of {dataset.name} ({dataset.split_by}):"
            f" {', '.join(faults)}. {reading.remedy()}"
        )
    return PredictedMasks(reading.sizes, reading.codes, reading.others, left_out)


class _Reading:
    """Compares entries with the expressions of a split, and collects masks and faults.

    Attributes:
        sizes: sent_id of each expression of the split -> height and width of its image.
        codes: sent_id -> run lengths.
        others: number of entries that are about other expressions.
    """

    def __init__(self, dataset: ReferDataset, split: str, left_out: frozenset[int]) -> None:
        self.sizes: dict[int, tuple[int, int]] = {}
        self.codes: dict[int, bytes] = {}
        self.others = 0
        self._by_text: set[int] = set()  # sent_ids whose mask was found by their sentence
        self._bad: set[int] = set()  # sent_ids whose mask is there and cannot be used
        self._faults: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}
        for ref in (ref for ref in dataset.refs_of(split) if ref.image_id not in left_out):
            info = dataset.info(ref.image_id)
            for sentence in ref.sentences:
                self.sizes[sentence.sent_id] = (info.height, info.width)
        self._refs = {ref.ref_id: ref for ref in dataset.refs}
        self._owners = {sentence.sent_id: ref for ref in dataset.refs for sentence in ref.sentences}

    @functools.cached_property
    def _sentences(self) -> dict[tuple[int, str], list[int]]:
        """Image and sentence -> sent_ids, for files that name expressions so."""
        found: dict[tuple[int, str], list[int]] = {}
        for ref in self._refs.values():
            for sentence in ref.sentences:
                for text in {_plain(sentence.sent), _plain(sentence.raw)}:
                    found.setdefault((ref.image_id, text), []).append(sentence.sent_id)
        return found

    def add(self, entry: Entry) -> None:
        """Take the mask of an entry, or count what is wrong with it."""
        try:
            named = self._named(entry)
        except _Unknown as error:
            self._count("unknown", f"{entry.where}: {error}")
            return
        own = [sent_id for sent_id in named if sent_id in self.sizes]
        if not own:
            self.others += 1
            return
        try:
            counts = run_lengths(entry.segmentation, *self.sizes[own[0]])
        except OtherSize as error:
            self._count("size", f"{entry.where}: {error}")
            self._bad.update(own)
            return
        except DAMAGED as error:
            self._count("damaged", f"{entry.where}: {describe_error(error)}")
            self._bad.update(own)
            return
        by_text = not any({*names} <= {*entry.ids} for names in ONE_EXPRESSION)
        for sent_id in own:
            # One sentence may be said twice of an image, and a file may answer it each time.
            again = by_text and sent_id in self._by_text and self.codes.get(sent_id) == counts
            if sent_id in self.codes and not again:
                self._count("double", f"{entry.where}: sent_id {sent_id}")
            self.codes[sent_id] = counts
        if by_text:
            self._by_text.update(own)

    def _named(self, entry: Entry) -> list[int]:
        """Return the sent_ids that an entry is about, which are several for a repeated sentence.

        Raises:
            _Unknown: there is none, or what the entry says of it contradicts the data set.
        """
        ids = entry.ids
        for name in ("sent_id", "ref_id", "index", "image_id"):
            if name in ids and type(ids[name]) is not int:
                raise _Unknown(f"{name} {_short(ids[name])} is no whole number")
        if "sent_id" in ids:
            sent_id = ids["sent_id"]
            if sent_id not in self._owners:
                raise _Unknown(f"sent_id {_short(sent_id)}")
            self._check_owner(sent_id, ids)
            return [sent_id]
        if "ref_id" in ids and "index" in ids:
            ref, index = self._refs.get(ids["ref_id"]), ids["index"]
            if ref is None or not 0 <= index < len(ref.sentences):
                raise _Unknown(f"ref_id {_short(ids['ref_id'])} index {_short(index)}")
            return [ref.sentences[index].sent_id]
        if "image_id" in ids and isinstance(ids.get("sentence"), str):
            same = self._sentences.get((ids["image_id"], _plain(ids["sentence"])), [])
            found = [
                sent_id
                for sent_id in same
                if ids.get("ref_id") in (None, self._owners[sent_id].ref_id)
            ]
            if not found:
                raise _Unknown(f"'{_short(ids['sentence'])}' of image {_short(ids['image_id'])}")
            return found
        raise _Unknown("it has no sent_id, no ref_id with index, and no image_id with sentence")

    def _check_owner(self, sent_id: int, ids: dict[str, Any]) -> None:
        """Check that an entry speaks of the image and ref that have the expression.

        A file that was made for another version of the data set would be scored in silence.
        """
        ref = self._owners[sent_id]
        for name in ("image_id", "ref_id"):
            if name in ids and ids[name] != getattr(ref, name):
                raise _Unknown(
                    f"sent_id {sent_id} is of {name} {getattr(ref, name)} and not {ids[name]}"
                )

    def _count(self, kind: str, example: str) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        examples = self._faults.setdefault(kind, [])
        if len(examples) < SHOWN:
            examples.append(printable(example))

    def faults(self, allow_missing: bool) -> list[str]:
        """Return what is wrong, in words, each kind with its number and its first examples."""
        missing = sorted(self.sizes.keys() - self.codes.keys() - self._bad)
        if missing and not allow_missing:
            self._counts["missing"] = len(missing)
            self._faults["missing"] = [f"sent_id {sent_id}" for sent_id in missing[:SHOWN]]
        return [
            f"{self._counts[kind]} {words[self._counts[kind] > 1]}"
            f" ({'; '.join(self._faults[kind])}{' ...' if self._counts[kind] > SHOWN else ''})"
            for kind, words in self._words().items()
            if kind in self._counts
        ]

    def _words(self) -> dict[str, tuple[str, str]]:
        """Return kind of fault -> what is said of one such, and of several."""
        of = f"of {len(self.sizes)} expressions"
        return {
            "missing": (f"{of} has no mask", f"{of} have no mask"),
            "double": (
                "mask is of an expression that has one already",
                "masks are of expressions that have one already",
            ),
            "unknown": (
                "entry is of no expression of the data set",
                "entries are of no expression of the data set",
            ),
            "size": (
                "mask has another size than its image",
                "masks have another size than their images",
            ),
            "damaged": ("mask is damaged", "masks are damaged"),
        }

    def remedy(self) -> str:
        """Return what to do about the faults."""
        if {*self._counts} == {"missing"}:
            return (
                "Predict them, too, or give --allow-missing, which takes a missing mask for an"
                " empty one."
            )
        return "Correct the predictions and score them again."


def _plain(text: str) -> str:
    """Return a sentence without what people change in passing: capitals and spaces."""
    return " ".join(text.lower().split())


def _short(value: Any) -> str:
    return f"{value!s:.40}" if isinstance(value, str | int) else f"{value!r:.40}"
