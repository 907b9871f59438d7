"""The qualitative figures, as Figs. 5, 7, C and D of MaskRIS have them.

A row is an expression: its image, the true mask, and the masks of the reference and of a strategy,
with their IoUs. There is one figure per method, strategy, data set and rule. Everything is read
from what `risbench examples` has cut, so neither the data nor a network is needed.
"""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from benchmark.base.errors import UserError
from benchmark.evaluation import examples as cut
from benchmark.evaluation import masks
from benchmark.evaluation.example_rules import RULES
from benchmark.evaluation.examples import Example
from reports import labels, mask_panels
from reports.compare import Setting
from reports.figures import PAGE, QUIET

# All lengths are inches.
MARGIN = 0.05
GAP = 0.08  # between panels
LINE = 0.14  # of text
HEAD = 0.66  # title, meaning of the rule and column headings
FOOT = 0.24  # legend
LETTERS = 84  # of a sentence in one line
SMALL = 7  # points


@dataclasses.dataclass(frozen=True)
class Shown:
    """A run that examples show.

    Attributes:
        place: method and data set, the same for runs that are compared.
        strategy: what tables call its strategy.
        seed: its seed.
    """

    place: str
    strategy: str
    seed: int


def figures(place: Path, every: Sequence[Setting]) -> dict[str, Figure]:
    """Return name -> figure of the examples of a plan, in their order.

    Examples of runs that are not among the settings are left out. They must be drawn and saved in
    the context of `reports.figures.STYLE`.

    Args:
        place: folder of the examples (`benchmark.evaluation.examples.folder`).
        every: the finished runs, as `reports.compare.settings` returns them.

    Raises:
        UserError: the examples, a picture or a mask are damaged.
    """
    runs = {
        run.spec.key: Shown(labels.method_label(setting.columns), strategy, seed)
        for setting in every
        for strategy, by_seed in setting.strategies.items()
        for seed, run in by_seed.items()
    }
    grouped: dict[tuple[str, ...], list[Example]] = {}
    for example in cut.read(place):
        keys = [key for key in example.masks if key in runs]
        if len(keys) < len(example.masks) or not keys:
            continue
        # The reference's runs come first, and those of the strategy last.
        last = runs[keys[-1]]
        where = f"{example.dataset} {example.split}"
        grouped.setdefault((where, last.place, last.strategy, example.rule), []).append(example)
    return {
        _name(*names): figure(examples, place, runs, names) for names, examples in grouped.items()
    }


def _name(where: str, method: str, strategy: str, rule: str) -> str:
    """Return the name of a figure's files."""
    text = "-".join(("examples", where, method, strategy, rule))
    return "-".join("".join(letter if letter.isalnum() else " " for letter in text).split())


def figure(
    examples: Sequence[Example],
    place: Path,
    runs: Mapping[str, Shown],
    names: tuple[str, str, str, str],
) -> Figure:
    """Return the figure of some examples of one method, strategy, data set and rule.

    The difference beside a sentence is the mean over all seeds that both strategies have. The masks
    are of the seed whose own difference is nearest to it.

    Args:
        examples: at least one.
        place: their folder.
        runs: run key -> what is shown of it, for all runs of the examples.
        names: data set and split, method, strategy and rule.
    """
    where, method, strategy, rule = names
    width = (PAGE - 2 * MARGIN - 3 * GAP) / 4
    sentences = [textwrap.wrap(f"“{example.sentence}”", LETTERS) for example in examples]
    # A portrait gets no more height than a square.
    heights = [width * min(1.0, example.size[0] / example.size[1]) for example in examples]
    rows = [
        LINE * (len(lines) + 1) + 0.1 + height
        for lines, height in zip(sentences, heights, strict=True)
    ]
    total = HEAD + sum(rows) + FOOT
    drawn = Figure(figsize=(PAGE, total))

    def write(left: float, top: float, text: str, **how: object) -> None:
        # A sentence may hold a dollar sign, which is no formula.
        how = {"fontsize": SMALL, "parse_math": False, **how}
        drawn.text(left / PAGE, 1 - top / total, text, va="top", **how)

    write(MARGIN, MARGIN, f"{rule.capitalize()}: {method}, {where}", fontsize=8, weight="bold")
    if rule in RULES:
        write(MARGIN, MARGIN + 0.17, RULES[rule].meaning, color=QUIET)
    lefts = [MARGIN + number * (width + GAP) for number in range(4)]
    compared = [runs[key].strategy for key in _typical(examples[0])]
    headings = ("image", "ground truth", *compared)
    for left, heading in zip(lefts, headings, strict=True):
        write(left + width / 2, HEAD - LINE - 0.05, heading, ha="center", weight="bold")
    top = HEAD
    for example, lines, height, row in zip(examples, sentences, heights, rows, strict=True):
        for number, line in enumerate(lines):
            write(MARGIN, top + LINE * number, line, style="italic", fontsize=7.5)
        shown = _typical(example)
        write(
            PAGE - MARGIN, top, _difference(example, runs[shown[0]].seed), ha="right", color=QUIET
        )
        upper = top + LINE * len(lines) + 0.04
        boxes = [
            (left / PAGE, 1 - (upper + height) / total, width / PAGE, height / total)
            for left in lefts
        ]
        axes = [drawn.add_axes(box) for box in boxes]
        _draw(axes, example, place, shown)
        for key, left in zip(shown, lefts[2:], strict=True):
            answer = example.masks[key]
            text = mask_panels.said(answer.iou, _mask(answer.rle, example, place))
            write(left + width / 2, upper + height + 0.02, text, ha="center")
        top += row
    write(MARGIN, top + 0.02, mask_panels.NOTE, color=QUIET)
    return drawn


def _typical(example: Example) -> tuple[str, str]:
    """Return the runs of the seed whose difference is nearest to the mean over the seeds."""
    keys = [*example.masks]
    # The reference's runs come first, and those of the strategy follow in the same order of seeds.
    pairs = list(zip(keys[: len(keys) // 2], keys[len(keys) // 2 :], strict=True))

    def distance(pair: tuple[str, str]) -> float:
        before, after = (example.masks[key].iou for key in pair)
        # Of two seeds both are as near, whatever the last digits say, and the first one is shown.
        return round(abs(after - before - example.difference), 9)

    return min(pairs, key=distance)


def _difference(example: Example, seed: int) -> str:
    """Return the change of the IoU in words."""
    seeds = len(example.masks) // 2
    change = f"{100 * example.difference:+.1f} points".replace("-", "\N{MINUS SIGN}")
    return f"{change} over {seeds} seeds, here seed {seed}" if seeds > 1 else change


# --- panels ---------------------------------------------------------------------------------------


def _draw(axes: Sequence[Axes], example: Example, place: Path, shown: Sequence[str]) -> None:
    """Draw image, true mask and the masks of two runs into four axes."""
    pixels = _picture(place / example.picture, example.size)
    truth = _mask(example.truth, example, place)
    axes[0].imshow(pixels)
    axes[0].set_axis_off()
    mask_panels.draw(axes[1], pixels, truth, mask_panels.TRUTH)
    colors = (mask_panels.REFERENCE, mask_panels.OTHERS[0])
    for axis, key, color in zip(axes[2:], shown, colors, strict=True):
        mask = _mask(example.masks[key].rle, example, place)
        mask_panels.draw(axis, pixels, mask, color, truth)


def _picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return a picture as RGB, uint8 (height, width, 3)."""
    try:
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("RGB"))
    except (OSError, ValueError, UnidentifiedImageError):
        pixels = np.empty((0, 0, 3), np.uint8)
    if pixels.shape[:2] != size:
        raise UserError(f"{path} is missing or damaged: start `risbench examples` again.")
    return pixels


def _mask(rle: object, example: Example, place: Path) -> np.ndarray:
    """Return a mask of an example, bool (height, width)."""
    try:
        mask = masks.decode(rle)
        if mask.shape != example.size:
            raise ValueError("it has another size than its picture")
    except ValueError as error:
        raise UserError(
            f"a mask of sent_id {example.sent_id} in {place / cut.FILE} is damaged ({error}):"
            " start `risbench examples` again."
        ) from None
    return mask
