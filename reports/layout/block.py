"""A table as text in cells, which Markdown, LaTeX and the terminal all show."""

import dataclasses
from collections.abc import Sequence

# Cells of columns with these headings hold a verdict or a state, which is shown in its color.
JUDGED = ("verdict", "status", "state")
# Columns with these headings hold words wherever they stand.
WORDS = (
    "strategy",
    "against",
    "compared",
    "verdict",
    "status",
    "why, and beside",
    "place",
    "claim",
)


@dataclasses.dataclass(frozen=True)
class Block:
    """One table.

    Attributes:
        title: stands above it.
        note: a sentence under the title, or "".
        header: headings of the columns. A newline in one is for the terminal alone.
        lines: the cells, as many in each line as there are headings.
        names: number of the first columns that hold words.
        repeated: number of the first columns that name a line. They stand there again where a
            narrow terminal continues the table below. By default they are those that hold words.
        bold: places (line, column) of cells in bold.
    """

    title: str
    note: str
    header: tuple[str, ...]
    lines: list[tuple[str, ...]]
    names: int = 3
    repeated: int | None = None
    bold: frozenset[tuple[int, int]] = frozenset()

    def is_words(self, column: int) -> bool:
        """Return whether a column is read as words, to the left, and not as numbers."""
        return column < self.names or self.header[column] in WORDS

    def part(self, columns: Sequence[int]) -> "Block":
        """Return the block with some of its columns, given by their places."""
        return dataclasses.replace(
            self,
            header=tuple(self.header[column] for column in columns),
            lines=[tuple(line[column] for column in columns) for line in self.lines],
            bold=frozenset(
                (line, place)
                for place, column in enumerate(columns)
                for line in range(len(self.lines))
                if (line, column) in self.bold
            ),
        )


def named_once(lines: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the lines without those of the first three cells that repeat the cell above.

    A cell stays if a cell before it has changed, so the same method on another split is named.
    """
    shown = []
    above = ("",) * 3
    for line in lines:
        names = ("" if line[: n + 1] == above[: n + 1] else line[n] for n in range(3))
        shown.append((*names, *line[3:]))
        above = line[:3]
    return shown
