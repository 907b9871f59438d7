"""TODO."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.base.errors import UserError
from benchmark.evaluation import metrics

HEADINGS = {"oiou": "oIoU", "miou": "mIoU", "grounding_gap": "gap"} | {
    f"p_{tenths}0": f"P@0.{tenths}" for tenths in metrics.TENTHS
}
NOTHING = "–"


@dataclasses.dataclass(frozen=True)
class Block:
    """One table to be read: a title, a note (or ""), and text in cells.

    The first `names` columns hold words. A newline in a heading is one of the terminal alone.
    """

    title: str
    note: str
    header: tuple[str, ...]
    lines: list[tuple[str, ...]]
    names: int = 3

    def words(self, column: int) -> bool:
        """Return whether a column is read as words, to the left, and not as numbers."""
        return column < self.names or self.header[column] in ("strategy", "compared", "verdict")


def _once(lines: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the lines with split, method and metric or strategy named only where they change."""
    shown, above = [], ("",) * 3
    for line in lines:
        names = ("" if line[: n + 1] == above[: n + 1] else line[n] for n in range(3))
        shown.append((*names, *line[3:]))
        above = line[:3]
    return shown


def percent(value: float, sign: str = "") -> str:
    """Return a fraction in percent with two decimals, never a negative zero."""
    return NOTHING if np.isnan(value) else format(round(100 * value, 2) + 0.0, f"{sign}.2f")


def plus_minus(mean: float, deviation: float) -> str:
    """Return mean and deviation in percent, without a deviation where it is NaN."""
    return percent(mean) + ("" if np.isnan(deviation) else f" ± {percent(deviation)}")


def difference(value: float, low: float, high: float) -> str:
    """Return a difference in percent with its interval; nothing where it is NaN."""
    if np.isnan(value):
        return NOTHING
    return f"{percent(value, '+')} " + ("(no interval)" if np.isnan(low) else f"[{percent(low)}, {percent(high)}]")


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Write file name -> content into a folder, which is made; return the paths.

    Raises:
        UserError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in contents.items():
            (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise UserError(
            f"cannot write the tables to {folder} ({error.strerror}); choose another --out folder."
        ) from None
    return [folder / file for file in contents]


def bullets(lines: Sequence[str]) -> str:
    """Return lines as a Markdown list; those that are indented belong to the one before."""
    return "\n".join(f"  - {line.strip()}" if line.startswith("  ") else f"- {line}" for line in lines)


def markdown_block(block: Block) -> str:
    """Return a block as a Markdown table under its title."""
    header, *lines = (
        [cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in (block.header, *block.lines)
    )
    widths = [max(len(cell) for cell in column) for column in zip(header, *lines, strict=True)]
    words = [block.words(column) for column in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if left else c.rjust(w) for c, w, left in zip(cells, widths, words, strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if left else "-" * (width - 1) + ":" for width, left in zip(widths, words, strict=True)]
    note = [f"{block.note}\n"] if block.note else []
    return "\n".join([f"### {block.title}\n", *note, row(header), row(rule), *map(row, lines)])


def csv(table: pd.DataFrame) -> str:
    """Return the comparison as CSV."""
    lists = table.map(lambda cell: " ".join(map(_plain, cell)) if isinstance(cell, tuple) else cell)
    return lists.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def _plain(entry: object) -> str:
    return f"{entry:.6f}" if isinstance(entry, float) else str(entry)


def latex_comments(known: Sequence[str]) -> str:
    """Return what must be known as comments at the head of a LaTeX file."""
    return "".join(f"% {line}\n" for line in [*known, "needs \\usepackage{booktabs}"])


def latex_tabular(blocks: Sequence[Block]) -> str:
    """Return blocks of the same columns as one tabular."""
    header, columns = blocks[0].header, len(blocks[0].header)
    lines = [
        f"\\begin{{tabular}}{{{''.join('l' if blocks[0].words(column) else 'r' for column in range(columns))}}}",
        "\\toprule",
        _latex_row(header),
    ]
    for block in blocks:
        heads = [f"\\textit{{{_latex(block.title)}}}"] + (
            [f"\\footnotesize {_latex(block.note)}"] if block.note else []
        )
        lines += ["\\midrule", *(f"\\multicolumn{{{columns}}}{{l}}{{{head}}} \\\\" for head in heads)]
        lines += map(_latex_row, block.lines)
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex, cells)) + " \\\\"


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "\n": " ",
    NOTHING: "--",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def _latex(text: str) -> str:
    """Return a cell's text with what LaTeX would take for commands escaped, and signs of numbers set as mathematics."""
    escaped = "".join(LATEX.get(character, character) for character in text)
    return re.sub(r"(?<!\w)([+-])(?=\d)", r"$\1$", escaped)


def print_blocks(console: Console, blocks: Sequence[Block], notes: Sequence[str], width: int) -> None:
    """Print blocks and the notes under them, `width` columns wide."""
    for block in blocks:
        # Texts, since a plain string with an interval in it would be read as markup.
        shown = Table(title=Text(block.title), title_justify="left", box=None, pad_edge=False, collapse_padding=True)
        for column, heading in enumerate(block.header):
            # A number is never cut; where the terminal is narrow, an interval moves below its number.
            folds = "[95 %]" in heading or heading in ("method", "strategy", "compared", "row")
            longest = max(len(word) for line in [block.header, *block.lines] for word in [""] + line[column].split())
            shown.add_column(
                Text(heading),
                justify="left" if block.words(column) else "right",
                no_wrap=not folds,
                min_width=longest if folds else None,
            )
        for line in block.lines:
            shown.add_row(*map(Text, line))
        console.print(shown, width=width)
        if block.note:
            console.print(Text(block.note), width=width)
        console.print()
    for note in notes:
        console.print(Text(note), width=width)
