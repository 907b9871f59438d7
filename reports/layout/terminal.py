"""Shows blocks and notes in the terminal, where no number is ever cut."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from reports.layout.block import Block

# Cells of columns with these headings may take several lines.
FOLDING = ("method", "strategy", "compared", "row", "it says", "status")


def print_blocks(
    console: Console, blocks: Sequence[Block], notes: Sequence[str], width: int
) -> None:
    """Print blocks and the notes under them, `width` columns wide."""
    for block in blocks:
        for part in _parts(console, block, width):
            console.print(_table(part), width=width)
            if part.note:
                console.print(Text(part.note), width=width)
            console.print()
    for note in notes:
        console.print(Text(note), width=width)


def _parts(console: Console, block: Block, width: int) -> Iterator[Block]:
    """Yield the block, or parts of it that repeat its names if it is wider than the terminal."""
    # A measure is never wider than what it is given, so it is given more than any table has.
    unbounded = console.options.update_width(10_000)
    names = list(range(block.names if block.repeated is None else block.repeated))
    columns: list[int] = []
    for column in range(len(names), len(block.header)):
        wider = _table(block.part([*names, *columns, column]))
        if columns and Measurement.get(console, unbounded, wider).minimum > width:
            yield block.part([*names, *columns])
            columns = []
        columns.append(column)
    yield block.part([*names, *columns])


def _table(block: Block) -> Table:
    # All are Texts, because rich would take a plain string with an interval in it for markup.
    table = Table(
        title=Text(block.title),
        title_justify="left",
        box=None,
        pad_edge=False,
        collapse_padding=True,
    )
    for column, heading in enumerate(block.header):
        # Where the terminal is narrow, an interval moves below its number.
        folds = "[95 %]" in heading or heading in FOLDING
        words = [word for line in (block.header, *block.lines) for word in line[column].split()]
        table.add_column(
            Text(heading),
            justify="left" if block.is_words(column) else "right",
            no_wrap=not folds,
            min_width=max(map(len, words), default=0) if folds else None,
        )
    for line in block.lines:
        table.add_row(*map(Text, line))
    return table
