"""A table as text in cells: what Markdown, LaTeX and the terminal all show."""

import dataclasses
from collections.abc import Sequence

WORDS = (
    "strategy",
    "compared",
    "verdict",
)  # headings of columns that hold words wherever they stand


@dataclasses.dataclass(frozen=True)
class Block:
    """One table.

    Attributes:
        title: stands above it. note: a sentence under the title, or "".
        header: headings of the columns. A newline in one is for the terminal alone.
        lines: the cells, as many in each line as there are headings.
        names: how many of the first columns hold words.
        repeated: how many of the first columns name a line, so that they stand there again where
            a narrow terminal continues the table below. None: those that hold words.
    """

    title: str
    note: str
    header: tuple[str, ...]
    lines: list[tuple[str, ...]]
    names: int = 3
    repeated: int | None = None

    def is_words(self, column: int) -> bool:
        """Return whether a column is read as words, to the left, and not as numbers."""
        return column < self.names or self.header[column] in WORDS

    def part(self, columns: Sequence[int]) -> "Block":
        """Return the block with some of its columns, given by their places."""
        return dataclasses.replace(
            self,
            header=tuple(self.header[column] for column in columns),
            lines=[tuple(line[column] for column in columns) for line in self.lines],
        )


def named_once(lines: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the lines with each of the first three cells left empty where it repeats the one above.

    A cell stays where a cell before it has changed: the same method on another split is named.
    """
    shown, above = [], ("",) * 3
    for line in lines:
        names = ("" if line[: n + 1] == above[: n + 1] else line[n] for n in range(3))
        shown.append((*names, *line[3:]))
        above = line[:3]
    return shown
