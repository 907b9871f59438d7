"""Masks that others predicted for a split, checked against its data set before they count.

All that is wrong with a file is counted and named in one sentence, and nothing is scored then. A
mask is kept as run lengths of its image's size, so a split takes no more memory than its file.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from pycocotools import mask as coco_mask

from benchmark.base.errors import UserError
from benchmark.base.files import describe_error, open_regular
from benchmark.base.texts import printable
from benchmark.data.expressions import expressions_by_image
from benchmark.data.pictures import DECODING_ERRORS
from benchmark.data.refer import Ref, ReferDataset
from benchmark.data.segmentations import parts, read_segmentation
from benchmark.evaluation import masks
from benchmark.evaluation.prediction_files import Entry, read_entries
from benchmark.evaluation.records import Prediction, frame, records_of

ONE_EXPRESSION = (("sent_id",), ("ref_id", "index"))  # what names one expression and no other
SHOWN = 3  # examples of a fault that a message names
DAMAGED = (*DECODING_ERRORS, KeyError, TypeError, OverflowError, MemoryError)


class _OtherSize(Exception):
    """A mask does not have the size of its image."""


class _Unknown(Exception):
    """An entry names no expression of the data set."""


@dataclasses.dataclass(frozen=True)
class PredictedMasks:
    """The masks of a split.

    Attributes:
        sizes: sent_id of each expression of the split -> height and width of its image, in pixels.
        codes: sent_id -> run lengths, as COCO compresses them. Expressions without a mask are not
            there.
        others: number of entries that are about other expressions of the data set, and are not
            read.
        left_out: ids of images of which no mask is wanted.
    """

    sizes: dict[int, tuple[int, int]]
    codes: dict[int, bytes]
    others: int = 0
    left_out: frozenset[int] = frozenset()

    @property
    def missing(self) -> list[int]:
        """The sent_ids without a mask, in order. Their masks count as empty."""
        return sorted(self.sizes.keys() - self.codes.keys())

    def mask(self, sent_id: int) -> np.ndarray:
        """Return the mask of an expression, bool (height, width)."""
        size = self.sizes[sent_id]
        if sent_id not in self.codes:
            return np.zeros(size, bool)
        code = {"size": [*size], "counts": self.codes[sent_id]}
        return np.ascontiguousarray(coco_mask.decode(code)).astype(bool)

    def table(self) -> pd.DataFrame:
        """Return the masks as a run keeps them (see `masks`), with an empty one for a missing."""
        empty = {size: run_lengths([], *size) for size in {*self.sizes.values()}}
        rows = [
            (sent_id, *size, self.codes.get(sent_id, empty[size]).decode("ascii"))
            for sent_id, size in self.sizes.items()
        ]
        return masks.frame([dict(zip(masks.COLUMNS, row, strict=True)) for row in rows])

    def digest(self) -> str:
        """Return the sha256 (hex) of the masks, which does not depend on the format of the file."""
        its = hashlib.sha256()
        for sent_id, counts in sorted(self.codes.items()):
            height, width = self.sizes[sent_id]
            its.update(f"{sent_id} {height} {width} ".encode() + counts + b"\n")
        return its.hexdigest()


def score(
    dataset: ReferDataset,
    split: str,
    predicted: PredictedMasks,
    on_image: Callable[[Prediction], None] = lambda prediction: None,
) -> pd.DataFrame:
    """Return the records of a split, as the evaluation of a network makes them.

    Args:
        dataset: holds the ground truth.
        split: name of the split.
        predicted: its masks, as `read_predictions` returns them.
        on_image: is called with the masks of every image, for progress.

    Raises:
        UserError: an annotation of the data set is missing or damaged.
    """
    rows: list[dict[str, Any]] = []
    for image in expressions_by_image(dataset, split):
        if image.image_id in predicted.left_out:
            continue
        its = [predicted.mask(sentence.sent_id) for sentence in image.sentences]
        prediction = Prediction(image, its, [])
        rows += records_of(prediction)
        on_image(prediction)
    return frame(rows)


# --- reading --------------------------------------------------------------------------------------


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
        self._owners: dict[int, Ref] = {}
        self._sentences: dict[tuple[int, str], list[int]] = {}
        for ref in dataset.refs:
            for sentence in ref.sentences:
                self._owners[sentence.sent_id] = ref
                for text in {_plain(sentence.sent), _plain(sentence.raw)}:
                    same = self._sentences.setdefault((ref.image_id, text), [])
                    same.append(sentence.sent_id)

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
        except _OtherSize as error:
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


# --- one mask -------------------------------------------------------------------------------------


def run_lengths(segmentation: Any, height: int, width: int) -> bytes:
    """Return a mask as compressed run lengths of its image's size.

    Its size is compared before anything of that size is made.

    Args:
        segmentation: an RLE whose counts are a text or a list, polygons, or the path of a PNG.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Raises:
        _OtherSize: it has another size.
        DAMAGED: it is no mask.
    """
    if isinstance(segmentation, Path):
        return _picture(segmentation, height, width)
    if isinstance(segmentation, dict):
        size, counts = segmentation["size"], segmentation["counts"]
        if not isinstance(size, list | tuple) or len(size) != 2:
            raise ValueError(f"the size of an RLE is [height, width] and not {size!r:.40}")
        _check_size((size[0], size[1]), height, width)
        if isinstance(counts, list) and not all(type(count) is int for count in counts):
            raise ValueError("its run lengths are no whole numbers")
    elif not isinstance(segmentation, list):
        raise ValueError("its segmentation is neither an RLE nor polygons")
    merged = coco_mask.merge(parts(read_segmentation(segmentation), height, width))
    return merged["counts"]


def _check_size(size: tuple[Any, Any], height: int, width: int) -> None:
    if size != (height, width):
        raise _OtherSize(f"{size[1]!s:.20} x {size[0]!s:.20} and not {width} x {height}")


def _picture(path: Path, height: int, width: int) -> bytes:
    """Return the mask of a PNG file, in which 0 is outside and one other value is inside."""
    with open_regular(path) as content, Image.open(content, formats=("PNG",)) as file:
        _check_size((file.height, file.width), height, width)
        values = np.asarray(file)
    if values.ndim == 3:
        # The last channel of two or four is transparency, which says nothing of the mask.
        values = values[..., : values.shape[2] - (values.shape[2] in (2, 4))].max(axis=2)
    inside = values != 0
    if inside.any() and np.ptp(values[inside].astype(np.int64)) > 0:
        raise ValueError("it has more than two values, so it is no mask: cut it at its threshold")
    return coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))["counts"]
