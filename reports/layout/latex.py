"""Shows blocks as tabulars for LaTeX's package booktabs, and notes as comments."""

import re
from collections.abc import Collection, Sequence

from reports.layout.block import Block
from reports.layout.numbers import NOTHING

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "²": "$^2$",
    "▲": r"$\uparrow$",
    "▼": r"$\downarrow$",
    "\n": " ",
    NOTHING: "--",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def comments(lines: Sequence[str]) -> str:
    """Return what must be known as comments at the head of a file."""
    return "".join(f"% {line}\n" for line in [*lines, "needs \\usepackage{booktabs}"])


def tabular(blocks: Sequence[Block]) -> str:
    """Return blocks of the same columns as one tabular, each under its title."""
    header = blocks[0].header
    columns = len(header)
    sides = "".join("l" if blocks[0].is_words(column) else "r" for column in range(columns))
    lines = [f"\\begin{{tabular}}{{{sides}}}", "\\toprule", _row(header)]
    for block in blocks:
        heads = [f"\\textit{{{escaped(block.title)}}}"]
        heads += [f"\\footnotesize {escaped(block.note)}"] if block.note else []
        lines.append("\\midrule")
        lines += [f"\\multicolumn{{{columns}}}{{l}}{{{head}}} \\\\" for head in heads]
        for number, cells in enumerate(block.lines):
            bold = {column for line, column in block.bold if line == number}
            lines.append(_row(cells, bold))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _row(cells: Sequence[str], bold: Collection[int] = ()) -> str:
    texts = [
        f"\\textbf{{{escaped(cell)}}}" if column in bold else escaped(cell)
        for column, cell in enumerate(cells)
    ]
    # After the end of a line LaTeX would take a bracket for the height of a gap.
    first = "{}" if texts[0].startswith("[") else ""
    return first + " & ".join(texts) + " \\\\"


def escaped(text: str) -> str:
    """Return a cell's text without what LaTeX would take for commands.

    The signs of numbers are set as mathematics, because a hyphen is shorter than a minus.
    """
    text = "".join(SPECIAL.get(character, character) for character in text)
    return re.sub(r"(?<!\w)([+-])(?=\d)", r"$\1$", text)
