"""The qualitative figures, as Figs. 5, 7, C and D of MaskRIS have them.

A row is an expression: its image, the true mask, and the masks of the reference and of a strategy,
with their IoUs. There is one figure per method, strategy, data set and rule. Everything is read
from what `risbench examples` has cut, so neither the data nor a network is needed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from benchmark.base.errors import UserError
from benchmark.evaluation import examples as cut
from benchmark.evaluation import masks
from benchmark.evaluation.drawn_text import wrapped
from benchmark.evaluation.example_rules import RULES
from benchmark.evaluation.examples import Example
from reports import labels, mask_panels
from reports.compare import Setting
from reports.figures import DPI, PAGE, QUIET, STYLE, files

# All lengths are inches.
MARGIN = 0.05
GAP = 0.08  # between panels
LINE = 0.14  # of text
HEAD = 0.66  # title, meaning of the rule and column headings
FOOT = 0.24  # legend
LETTERS = 84  # of a sentence in one line
WIDTH = (PAGE - 2 * MARGIN - 3 * GAP) / 4  # of a panel
LEFTS = [MARGIN + number * (WIDTH + GAP) for number in range(4)]
SMALL = 7  # points


@dataclasses.dataclass(frozen=True)
class Row:
    """One expression, with the answers of a strategy and of its reference.

    Attributes:
        example: the expression.
        pairs: seed -> keys of the runs of the reference and of the strategy.
    """

    example: Example
    pairs: Mapping[int, tuple[str, str]]

    def change(self, seed: int) -> float:
        """Return the IoU of the strategy minus that of the reference."""
        before, after = (self.example.masks[key].iou for key in self.pairs[seed])
        return after - before

    @property
    def mean_change(self) -> float:
        """The mean over the seeds."""
        return float(np.mean([self.change(seed) for seed in self.pairs]))

    @property
    def seed(self) -> int:
        """The seed whose change is nearest to the mean. Its masks are shown."""
        # Of two seeds both are as near, whatever the last digits say, and the first one is shown.
        return min(self.pairs, key=lambda seed: round(abs(self.change(seed) - self.mean_change), 9))


@dataclasses.dataclass(frozen=True)
class Heading:
    """What the rows of a figure have in common.

    Attributes:
        where: data set, way of splitting, and split.
        method: name of the method.
        reference: what tables call the strategy that is compared with.
        strategy: what they call the compared one.
        rule: why the expressions were chosen.
    """

    where: str
    method: str
    reference: str
    strategy: str
    rule: str

    @property
    def name(self) -> str:
        """The name of the figure's files."""
        text = "-".join((self.where, self.method, self.strategy, self.rule))
        return "-".join("".join(letter if letter.isalnum() else " " for letter in text).split())


def draw(place: Path, every: Sequence[Setting]) -> dict[str, bytes]:
    """Return file name -> content of the figures, in every format."""
    contents: dict[str, bytes] = {}
    with matplotlib.style.context(STYLE):
        for name, drawn in figures(place, every).items():
            contents |= files(name, drawn)
    return contents


def figures(place: Path, every: Sequence[Setting]) -> dict[str, Figure]:
    """Return name -> figure of the examples of a plan, in their order.

    Masks of runs that are not among the settings are not shown.

    Args:
        place: folder of the examples (`benchmark.evaluation.examples.folder`).
        every: the finished runs, as `reports.compare.settings` returns them.

    Raises:
        UserError: the examples, a picture or a mask are damaged.
    """
    grouped: dict[Heading, list[Row]] = {}
    reference = labels.reference()
    for example in cut.read(place):
        for setting in every:
            answered = {
                strategy: {
                    seed: run.spec.key
                    for seed, run in by_seed.items()
                    if run.spec.key in example.masks
                }
                for strategy, by_seed in setting.strategies.items()
            }
            before = answered.pop(reference, {})
            for strategy, after in answered.items():
                pairs = {seed: (before[seed], key) for seed, key in after.items() if seed in before}
                if pairs:
                    heading = Heading(
                        f"{example.dataset} ({example.split_by}) {example.split}",
                        labels.method_label(setting.columns),
                        reference,
                        strategy,
                        example.rule,
                    )
                    grouped.setdefault(heading, []).append(Row(example, pairs))
    return {heading.name: figure(heading, rows, place) for heading, rows in grouped.items()}


def figure(heading: Heading, rows: Sequence[Row], place: Path) -> Figure:
    """Return the figure of some expressions, a row for each.

    The change beside a sentence is the mean over all seeds that both strategies have. The masks are
    of the seed whose own change is nearest to it.

    Args:
        heading: what the rows have in common.
        rows: at least one.
        place: folder of the examples.
    """
    sentences = [wrapped(f"“{row.example.sentence}”", LETTERS) for row in rows]
    # A portrait gets no more height than a square.
    heights = [WIDTH * min(1.0, row.example.size[0] / row.example.size[1]) for row in rows]
    steps = [
        LINE * (len(lines) + 1) + 0.1 + height
        for lines, height in zip(sentences, heights, strict=True)
    ]
    total = HEAD + sum(steps) + FOOT
    drawn = Figure(figsize=(PAGE, total))
    _write_heading(drawn, heading)
    top = HEAD
    for row, lines, height, step in zip(rows, sentences, heights, steps, strict=True):
        for number, line in enumerate(lines):
            _write(drawn, MARGIN, top + LINE * number, line, fontsize=7.5)
        _write(drawn, PAGE - MARGIN, top, _change(row), ha="right", color=QUIET)
        upper = top + LINE * len(lines) + 0.04
        axes = [
            drawn.add_axes(
                (left / PAGE, 1 - (upper + height) / total, WIDTH / PAGE, height / total)
            )
            for left in LEFTS
        ]
        for left, text in zip(LEFTS[2:], _draw(axes, row, place), strict=True):
            _write(drawn, left + WIDTH / 2, upper + height + 0.02, text, ha="center")
        top += step
    _write(drawn, MARGIN, top + 0.02, mask_panels.NOTE, color=QUIET)
    return drawn


def _write(figure: Figure, left: float, top: float, text: str, **how: object) -> None:
    """Write a text whose upper end is `top` inches below that of the figure."""
    # A sentence may hold a dollar sign, which is no formula.
    how = {"fontsize": SMALL, "va": "top", "parse_math": False, **how}
    figure.text(left / PAGE, 1 - top / figure.get_figheight(), text, **how)


def _write_heading(figure: Figure, heading: Heading) -> None:
    """Write title, meaning of the rule, and what the columns show."""
    title = f"{heading.rule.capitalize()}: {heading.method}, {heading.where}"
    _write(figure, MARGIN, MARGIN, title, fontsize=8, weight="bold")
    if heading.rule in RULES:
        _write(figure, MARGIN, MARGIN + 0.17, RULES[heading.rule].meaning, color=QUIET)
    columns = ("image", "ground truth", heading.reference, heading.strategy)
    for left, column in zip(LEFTS, columns, strict=True):
        _write(figure, left + WIDTH / 2, HEAD - LINE - 0.05, column, ha="center", weight="bold")


def _change(row: Row) -> str:
    """Return the change of the IoU in words."""
    change = f"{100 * row.mean_change:+.1f} points".replace("-", "\N{MINUS SIGN}")
    seeds = len(row.pairs)
    return f"{change} over {seeds} seeds, here seed {row.seed}" if seeds > 1 else change


# --- panels ---------------------------------------------------------------------------------------


def _draw(axes: Sequence[Axes], row: Row, place: Path) -> list[str]:
    """Draw image, true mask and the masks of two runs into four axes.

    Returns:
        What stands below the masks of the runs.
    """
    example = row.example
    size = _printed(example.size)
    picture = Image.fromarray(_picture(place / example.picture, example.size))
    pixels = np.asarray(picture.resize(size[::-1], Image.Resampling.LANCZOS))
    truth = cut.shrunk(_mask(example.truth, example, place), size)
    axes[0].imshow(pixels)
    axes[0].set_axis_off()
    mask_panels.draw(axes[1], pixels, truth, mask_panels.TRUTH)
    colors = (mask_panels.REFERENCE, mask_panels.OTHERS[0])
    said = []
    for axis, key, color in zip(axes[2:], row.pairs[row.seed], colors, strict=True):
        answer = example.masks[key]
        mask = _mask(answer.rle, example, place)
        mask_panels.draw(axis, pixels, cut.shrunk(mask, size), color, truth)
        said.append(mask_panels.said(answer.iou, mask))
    return said


def _printed(size: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width that a picture is printed with, at most those that it has."""
    scale = min(1.0, WIDTH * DPI / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


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
