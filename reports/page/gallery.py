"""The gallery: an example's picture with its true mask and the masks of compared runs.

`risbench examples` chooses expressions and cuts pictures and masks out of the data. This module
lays them out: a card per expression and method, with a panel per strategy.
"""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from benchmark.base.errors import UserError
from benchmark.base.files import read_bytes
from benchmark.evaluation import examples, masks
from benchmark.evaluation.examples import Example
from reports.page.named import Named

ROOM = 3_600_000  # letters that pictures and outlines may take, so that a page stays below 5 MB
ROUGHNESS = 0.7  # pixels by which an outline may differ from the edge of its mask


@dataclasses.dataclass(frozen=True)
class Panel:
    """A picture with a mask.

    Attributes:
        label: whose mask it is.
        kind: `truth`, or `guess` of a run, or `plain` for no mask at all.
        style: number of its color in the style sheet.
        outline: place of its outline in the gallery, or None for no mask or an empty one.
        iou: percent, or None.
    """

    label: str
    kind: Literal["plain", "truth", "guess"]
    style: int
    outline: int | None
    iou: float | None


@dataclasses.dataclass(frozen=True)
class Card:
    """What one method's runs say to one expression.

    Attributes:
        picture: number of its picture.
        example: the expression.
        where: data set and split.
        method: name of the method.
        seed: of the runs that are shown.
        truth: place of the true mask's outline in the gallery.
        panels: of the picture, the truth and the runs.
        difference: IoU of the last strategy minus that of the first, points, or None for a single
            strategy.
    """

    picture: int
    example: Example
    where: str
    method: str
    seed: int
    truth: int | None
    panels: list[Panel]
    difference: float | None


@dataclasses.dataclass(frozen=True)
class Gallery:
    """What the section shows.

    Attributes:
        pictures: a data URI, height and width each.
        outlines: paths of masks, each once, which panels show by their place.
        cards: those with the largest differences first.
        rules: why expressions were chosen, each once.
        methods: whose runs are shown, each once.
        left_out: number of expressions that the size of the page leaves out.
    """

    pictures: list[tuple[str, int, int]]
    outlines: list[str]
    cards: list[Card]
    rules: list[str]
    methods: list[str]
    left_out: int


def gallery(names: Mapping[str, Named], place: Path) -> Gallery | None:
    """Return the gallery, or None where no example was chosen.

    Args:
        names: run key -> what the page calls it. Masks of other runs are not shown.
        place: folder of the examples.

    Raises:
        UserError: `examples.json`, a picture or a mask is damaged. The message names the file.
    """
    chosen = [its for its in examples.read(place) if names.keys() & its.masks.keys()]
    pictures: dict[str, tuple[str, int, int]] = {}
    outlines: dict[str, int] = {}
    cards: list[Card] = []
    shown = 0
    for example in chosen:
        before = pictures.get(example.picture)
        picture = before or (_picture(example, place), *example.size)
        room = ROOM - sum(map(len, outlines)) - sum(len(data) for data, *_ in pictures.values())
        # Each rule's first examples come first, so that a page without room lacks the later ones.
        if before is None and len(picture[0]) > room:
            break
        pictures[example.picture] = picture
        number = [*pictures].index(example.picture)
        cards += _cards(example, number, names, outlines, place)
        shown += 1
    if not cards:
        return None
    cards.sort(key=lambda card: -abs(card.difference or 0))
    return Gallery(
        [*pictures.values()],
        [*outlines],
        cards,
        list(dict.fromkeys(its.rule for its in chosen[:shown])),
        list(dict.fromkeys(card.method for card in cards)),
        len(chosen) - shown,
    )


def _picture(example: Example, place: Path) -> str:
    """Return the picture of an example as a data URI."""
    content = base64.b64encode(read_bytes(place / example.picture)).decode()
    return f"data:image/webp;base64,{content}"


# --- cards ----------------------------------------------------------------------------------------


def _cards(
    example: Example,
    picture: int,
    names: Mapping[str, Named],
    outlines: dict[str, int],
    place: Path,
) -> list[Card]:
    """Return a card per method.

    Of the seeds that most of its strategies have, it shows the one whose difference is nearest to
    the mean over seeds, by which the example was chosen.

    Outlines that are new enter `outlines`, path -> place.
    """

    def kept(rle: dict[str, Any]) -> int | None:
        path = outline(rle, place)
        return outlines.setdefault(path, len(outlines)) if path else None

    truth = kept(example.truth)
    cards = []
    runs = [named for key, named in names.items() if key in example.masks]
    for (_, method), members in groupby(runs, key=lambda its: its.place):
        by_seed: dict[int, list[Named]] = {}
        for its in members:
            by_seed.setdefault(its.spec.seed, []).append(its)
        most = max(map(len, by_seed.values()))
        seed = min(
            (seed for seed, its in by_seed.items() if len(its) == most),
            key=lambda seed: abs(_difference(example, by_seed[seed]) - example.difference),
        )
        shown = by_seed[seed]
        panels = [
            Panel("picture", "plain", 0, None, None),
            Panel("ground truth", "truth", 0, truth, None),
        ]
        for its in shown:
            guess = example.masks[its.spec.key]
            mask = kept(guess.rle)
            panels.append(Panel(its.strategy, "guess", its.style, mask, 100 * guess.iou))
        difference = 100 * _difference(example, shown) if len(shown) > 1 else None
        where = f"{example.dataset} {example.split}"
        cards.append(Card(picture, example, where, method, seed, truth, panels, difference))
    return cards


def _difference(example: Example, runs: Sequence[Named]) -> float:
    """Return the IoU of the last run minus that of the first, a fraction."""
    last, first = (example.masks[its.spec.key].iou for its in (runs[-1], runs[0]))
    return last - first


def outline(rle: dict[str, Any], place: Path) -> str:
    """Return the outline of a mask as an SVG path, or "" for an empty mask.

    Raises:
        UserError: this is no run-length code.
    """
    try:
        mask = masks.decode(rle).astype(np.uint8)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"a mask in {place / examples.FILE} is damaged ({error}): delete the file and start"
            " `risbench examples` again."
        ) from None
    # Twice as large, so that a line one pixel thin has an outline that encloses something.
    larger = np.kron(mask, np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(larger, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    paths = []
    for contour in contours:
        # A small mask would lose its shape, or all of itself.
        roughness = min(2 * ROUGHNESS, 0.01 * cv2.arcLength(contour, closed=True))
        points = cv2.approxPolyDP(contour, roughness, closed=True)[:, 0]
        # Two steps of the larger mask are one pixel of the picture.
        paths.append("M" + "L".join(f"{(x + 1) // 2} {(y + 1) // 2}" for x, y in points) + "Z")
    return "".join(paths)
