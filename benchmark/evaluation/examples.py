"""Examples are expressions worth a look, with picture, true mask and the masks of compared runs.

    runs/examples/<plan>/examples.json          a list of `Example`
                         <data set>-<image>.webp    its pictures, each once

They are cut out of the data once, so whoever shows them needs neither the data nor a network.
`example_rules` says which expressions are chosen.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write, read_bytes
from benchmark.evaluation import masks, metrics
from benchmark.evaluation.example_rules import Split, Wanted, choose
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir

LONGEST_SIDE = 480  # of a picture, in pixels
QUALITY = 82  # of a picture as WebP
FILE = "examples.json"


class Answer(BaseModel):
    """What one run says to an expression.

    Attributes:
        rle: its mask at the picture's size, as `masks.encode` writes it.
        iou: of the mask at the original size, a fraction.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    rle: dict[str, Any]
    iou: float


class Example(BaseModel):
    """One expression, with the runs of a strategy and of its reference that answered it.

    Attributes:
        sent_id: number of the expression in its data set.
        image_id: COCO's.
        dataset: name of the data set.
        split_by: how it is split.
        split: name of the split in that data set.
        sentence: the expression.
        rule: why it was chosen, a name of `example_rules.RULES` or `chosen`.
        difference: IoU of the strategy minus that of the reference, the mean over the seeds.
        picture: name of the picture's file beside `examples.json`.
        size: height and width of the picture, in pixels.
        truth: the true mask at the picture's size, as `masks.encode` writes it.
        masks: run key -> what the run says. The reference's runs come first.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    sent_id: int
    image_id: int
    dataset: str
    split_by: str
    split: str
    sentence: str
    rule: str
    difference: float
    picture: str = Field(pattern=r"^\w[\w.-]*\.webp$")
    size: tuple[int, int]
    truth: dict[str, Any]
    masks: dict[str, Answer]


@dataclasses.dataclass(frozen=True)
class Pair:
    """The runs of a strategy and of its reference that differ in nothing else, seed by seed.

    Attributes:
        reference: run -> its records of the split.
        other: the same for the strategy.
        split: its name, as the runs report it.
    """

    reference: Mapping[RunDir, pd.DataFrame]
    other: Mapping[RunDir, pd.DataFrame]
    split: str

    def ious(self) -> pd.DataFrame:
        """Return one row per expression, with mean IoUs over the seeds.

        The columns are `sent_id`, `image_id`, `sentence`, `reference`, `other` and `difference`.
        """
        means = {
            name: np.mean([metrics.iou(metrics.by_sentence(its)) for its in runs.values()], axis=0)
            for name, runs in (("reference", self.reference), ("other", self.other))
        }
        first = metrics.by_sentence(next(iter(self.other.values())))
        about = first[["sent_id", "image_id", "sentence"]].reset_index(drop=True)
        return about.assign(**means, difference=means["other"] - means["reference"])


# --- cutting --------------------------------------------------------------------------------------


def cut(
    pairs: Sequence[Pair], wanted: Wanted, opened: Callable[[RunDir], Opened]
) -> tuple[list[Example], dict[str, bytes]]:
    """Return the wanted examples of every pair, and file name -> picture of their images.

    The first example of every pair comes first, so a reader who takes some sees all pairs.

    Args:
        pairs: compared runs.
        wanted: says which expressions.
        opened: gives a run's data.

    Raises:
        UserError: runs have no masks of the split (the message names them all), a file of masks is
            damaged, a wanted expression is in no split, or the data are not where they were.
    """
    _check_masks(pairs)
    each: list[list[Example]] = []
    pictures: dict[str, bytes] = {}
    for pair in pairs:
        run = next(iter(pair.other))
        dataset, name = opened(run).split(run.any_spec(), pair.split)
        split = Split.of(dataset, name, wanted.seed)
        examples = _of_pair(pair, split, choose(wanted, pair.ious(), split))
        for example in examples:
            if example.picture not in pictures:
                pictures[example.picture] = picture(dataset.image(example.image_id))
        each.append(examples)
    found = {example.sent_id for examples in each for example in examples}
    if missing := [sent_id for sent_id in wanted.sent_ids if sent_id not in found]:
        raise UserError(
            f"sent_id {missing[0]} is no expression of the split: the column sent_id of a run's"
            " records lists those that are."
        )
    together = [example for rank in zip_longest(*each) for example in rank if example]
    return together, pictures


def _check_masks(pairs: Sequence[Pair]) -> None:
    """Check that all runs have masks of their split, so that a user learns of all at once."""
    splits = {
        run.key: pair.split
        for pair in pairs
        for run in (*pair.reference, *pair.other)
        if not run.masks_path(pair.split).exists()
    }
    if splits:
        raise UserError(
            f"{len(splits)} runs were made before masks were stored: make their masks with"
            f" `risbench predict RUN --split {next(iter(splits.values()))}` for each of"
            f" {', '.join(splits)}."
        )


def _of_pair(pair: Pair, split: Split, chosen: Sequence[tuple[str, int]]) -> list[Example]:
    """Return the examples of a pair of strategies.

    Args:
        pair: the compared runs.
        split: what they were evaluated on.
        chosen: rule and sent_id of each example.
    """
    dataset = split.dataset
    sent_ids = {sent_id for _, sent_id in chosen}
    answers = {
        run.key: _answers(run, pair.split, sent_ids, records)
        for run, records in (*pair.reference.items(), *pair.other.items())
    }
    ious = pair.ious().set_index("sent_id")
    examples = []
    for rule, sent_id in chosen:
        ref = split.refs[sent_id]
        info = dataset.info(ref.image_id)
        size = picture_size(info.height, info.width)
        said = {key: by_sentence[sent_id] for key, by_sentence in answers.items()}
        examples.append(
            Example(
                sent_id=sent_id,
                image_id=ref.image_id,
                dataset=dataset.name,
                split_by=dataset.split_by,
                split=split.name,
                sentence=ious.at[sent_id, "sentence"],
                rule=rule,
                difference=float(ious.at[sent_id, "difference"]),
                # No file has the plus of a data set's name in its own.
                picture=f"{dataset.name.replace('+', 'plus')}-{ref.image_id}.webp",
                size=size,
                truth=masks.encode(shrunk(dataset.target(ref), size)),
                masks={
                    key: Answer(rle=masks.encode(shrunk(mask, size)), iou=iou)
                    for key, (mask, iou) in said.items()
                },
            )
        )
    return examples


def _answers(
    run: RunDir, split: str, sent_ids: Iterable[int], records: pd.DataFrame
) -> dict[int, tuple[np.ndarray, float]]:
    """Return sent_id -> mask, bool (height, width), and IoU of a run."""
    ious = dict(zip(records["sent_id"], metrics.iou(records), strict=True))
    codes = masks.codes(run.masks(split, sent_ids))
    try:
        return {
            sent_id: (masks.decode(codes[sent_id]), float(ious[sent_id])) for sent_id in sent_ids
        }
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{run.masks_path(split)} is damaged ({error}): delete it, and make it again with"
            f" `risbench predict {run.key} --split {split}`."
        ) from None


def picture_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of an image's picture, whose longest side is at most LONGEST_SIDE."""
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrunk(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a mask at a picture's size, bool: a pixel is in where half of its area is.

    Args:
        mask: bool, or uint8 in {0, 1}, (height, width).
        size: height and width of the picture.
    """
    area = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return area >= 0.5


def picture(pixels: np.ndarray) -> bytes:
    """Return an image, RGB, uint8 (height, width, 3), as a WebP file of a picture's size."""
    height, width = picture_size(*pixels.shape[:2])
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=QUALITY, method=6)
    return buffer.getvalue()


# --- files ----------------------------------------------------------------------------------------


def folder(runs: Path, plan: str) -> Path:
    """Return where the examples of a plan lie."""
    return runs / "examples" / plan


def write(place: Path, examples: Sequence[Example], pictures: Mapping[str, bytes]) -> Path:
    """Write the examples of a plan, and delete pictures of earlier ones that none of them shows.

    Returns:
        The path of `examples.json`.

    Args:
        place: their folder.
        examples: in the order in which they are shown.
        pictures: file name -> content.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    for name, content in pictures.items():
        atomic_write(place / name, lambda temporary, its=content: temporary.write_bytes(its))
    text = json.dumps([example.model_dump(mode="json") for example in examples], indent=1) + "\n"
    atomic_write(place / FILE, lambda temporary: temporary.write_text(text))
    for path in place.glob("*.webp"):
        if path.name not in pictures:
            path.unlink()
    return place / FILE


def read(place: Path) -> list[Example]:
    """Return the examples of a folder, which are none where none were cut.

    Raises:
        UserError: the file is damaged.
    """
    path = place / FILE
    if not path.exists():
        return []
    try:
        return TypeAdapter(list[Example]).validate_python(json.loads(read_bytes(path)))
    except (ValueError, ValidationError):
        raise UserError(
            f"{path} is damaged: delete it and start `risbench examples` again."
        ) from None
