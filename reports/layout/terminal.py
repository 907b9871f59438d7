"""Shows blocks and notes in the terminal, where no number is ever cut."""

import dataclasses
import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.base.texts import printable
from reports.layout.block import JUDGED, Block
from reports.layout.signs import look

# Cells of columns with these headings may take several lines.
FOLDING = ("method", "strategy", "compared", "row", "it says", "status")
COLORS = {"good": "green", "bad": "red", "equal": "cyan", "open": "yellow", "none": ""}
INTERVAL = "[95 %]"  # in the heading of numbers with their interval
# What is never broken: an interval in brackets, or a word.
WHOLE = re.compile(r"\[[^\]]*\]|\S+")


def print_blocks(
    console: Console, blocks: Sequence[Block], notes: Sequence[str], width: int
) -> None:
    """Print blocks and the notes under them, `width` columns wide."""
    for block in blocks:
        for part in _parts(block, width):
            if _total(_most(part)) > width:
                part = _folded(part)
            console.print(_table(part, width), width=width)
            if part.note:
                console.print(Text(printable(part.note)), width=width)
            console.print()
    for note in notes:
        console.print(Text(printable(note)), width=width)


def _parts(block: Block, width: int) -> Iterator[Block]:
    """Yield the block, or parts of it that repeat its names if it is wider than the terminal."""
    names = list(range(block.names if block.repeated is None else block.repeated))
    columns: list[int] = []
    for column in range(len(names), len(block.header)):
        if columns and _total(_least(block.part([*names, *columns, column]))) > width:
            yield block.part([*names, *columns])
            columns = []
        columns.append(column)
    yield block.part([*names, *columns])


def _folded(block: Block) -> Block:
    """Return the block with each interval on a line of its own, below its number."""
    intervals = [INTERVAL in heading for heading in block.header]
    lines = [
        tuple(
            cell.replace(" [", "\n[") if folds else cell
            for cell, folds in zip(line, intervals, strict=True)
        )
        for line in block.lines
    ]
    return dataclasses.replace(block, lines=lines)


def _table(block: Block, width: int) -> Table:
    # All are Texts, because rich would take a plain string with an interval in it for markup.
    table = Table(
        title=Text(printable(block.title)),
        title_justify="left",
        box=None,
        pad_edge=False,
        collapse_padding=True,
    )
    for column, (heading, its) in enumerate(zip(block.header, _widths(block, width), strict=True)):
        justify = "left" if block.is_words(column) else "right"
        table.add_column(Text(printable(heading)), justify=justify, width=its)
    for number, line in enumerate(block.lines):
        cells = [
            Text(
                printable(cell), _style(cell, block.header[column], (number, column) in block.bold)
            )
            for column, cell in enumerate(line)
        ]
        table.add_row(*cells)
    return table


def _style(cell: str, heading: str, is_bold: bool) -> str:
    """Return the style of a cell: bold, and the color of a verdict or status."""
    its = look(cell) if heading in JUDGED else None
    return " ".join(filter(None, ["bold" if is_bold else "", COLORS[its.tone] if its else ""]))


# --- widths ---------------------------------------------------------------------------------------


def _widths(block: Block, width: int) -> list[int]:
    """Return the widths of columns: what each needs, and a share of what is left.

    rich would divide the width by itself, and cut the last column where others cannot shrink.
    """
    widths = _least(block)
    wanted = [most - least for most, least in zip(_most(block), widths, strict=True)]
    left = width - _total(widths)
    # Those that want little come first, so that what they leave goes to the others.
    order = sorted(range(len(widths)), key=lambda column: wanted[column])
    for number, column in enumerate(order):
        share = max(0, min(wanted[column], left // (len(order) - number)))
        widths[column] += share
        left -= share
    return widths


def _total(widths: Sequence[int]) -> int:
    """Return the width of columns with a space between them."""
    return sum(widths) + len(widths) - 1


def _most(block: Block) -> list[int]:
    """Return the width of each column in which no cell is folded."""
    return [
        max(cell_len(text) for line in column for text in line.split("\n"))
        for column in zip(block.header, *block.lines, strict=True)
    ]


def _least(block: Block) -> list[int]:
    """Return the least width of each column: its longest word, or all of it where it never folds.

    Where the terminal is narrow, an interval moves below its number.
    """
    most = _most(block)
    columns = zip(block.header, *block.lines, strict=True)
    return [
        max(cell_len(word) for cell in cells for word in WHOLE.findall(cell) or [""])
        if INTERVAL in cells[0] or cells[0] in FOLDING
        else most[column]
        for column, cells in enumerate(columns)
    ]
