"""Shows blocks and notes as Markdown that also reads well as plain text."""

import re
from collections.abc import Sequence

from reports.layout.block import Block


def plain(text: str) -> str:
    """Return a text from data in which nothing is HTML, a link or a picture.

    Only what would be one is changed, so that other texts read as they are.
    """
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text).replace("](", "]&#40;")


def bullets(lines: Sequence[str]) -> str:
    """Return lines as a list. Those that are indented belong to the one before."""
    return "\n".join(
        f"  - {line.strip()}" if line.startswith("  ") else f"- {line}"
        for line in map(plain, lines)
    )


def table(block: Block) -> str:
    """Return a block as a table under its title, with each column padded to one width."""
    header, *lines = (
        [_escaped(cell, (number, column) in block.bold) for column, cell in enumerate(line)]
        for number, line in enumerate((block.header, *block.lines), -1)
    )
    # A column that is aligned to the right has a hyphen and a colon under its heading.
    columns = zip(header, *lines, strict=True)
    widths = [max(2, *(len(cell) for cell in column)) for column in columns]
    words = [block.is_words(column) for column in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(cells, widths, words, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if left else "-" * (width - 1) + ":"
        for width, left in zip(widths, words, strict=True)
    ]
    note = [f"{plain(block.note)}\n"] if block.note else []
    return "\n".join(
        [f"### {plain(block.title)}\n", *note, row(header), row(rule), *map(row, lines)]
    )


def _escaped(cell: str, is_bold: bool) -> str:
    # A backslash of the cell's own would take away the effect of one before the bar.
    text = plain(cell).replace("|", "&#124;").replace("\n", " ")
    return f"**{text}**" if is_bold else text


def document(parts: Sequence[str]) -> str:
    """Return parts as one text, without headings (`## ...`) that have nothing under them."""
    filled = [part for part in parts if part]
    following = [*filled[1:], "## "]
    kept = [
        part
        for part, after in zip(filled, following, strict=True)
        if not (part.startswith("## ") and after.startswith("## "))
    ]
    return "\n\n".join(kept) + "\n"
