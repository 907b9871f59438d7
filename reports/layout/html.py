"""Shows blocks as HTML: tables that sort where there is JavaScript, and read well without it.

Text from data is text, never markup. Every template escapes what it is given.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports.layout.block import JUDGED, Block
from reports.layout.signs import Look, look

SHORT = 26  # letters of words that are not broken into lines, as a key of any length is not
NAMED_ONCE = 3  # columns in which `block.named_once` leaves out what the cell above says
SHARE = re.compile(r"( \d+ ?%)?")  # what may follow a state in other columns than these
NUMBER = re.compile(r"[<>]?\s*([+-]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?)")


class Cell(NamedTuple):
    """A cell as the template shows it.

    Attributes:
        text: what it says.
        kind: `number`, `words`, or `long words` where a cell of its column has many.
        is_name: whether it names its row.
        look: how its verdict or status is shown, or None.
        again: whether it only repeats the cell above.
        bold: whether it is bold.
        order: the number by which its column is sorted, or "" where text or nothing stands in it.
    """

    text: str
    kind: str
    is_name: bool
    look: Look | None
    again: bool
    bold: bool
    order: str


@cache
def environment(*packages: tuple[str, str]) -> Environment:
    """Return what makes HTML of templates. It escapes all text.

    Args:
        packages: packages and their folders of templates, besides those of tables.
    """
    loaders = [PackageLoader(*place) for place in (*packages, ("reports", "layout/templates"))]
    made = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.globals |= {"table": table, "content_policy": content_policy}
    made.filters["look"] = look
    return made


def table(block: Block, legend: str = "") -> Markup:
    """Return a block as a table with a caption, in a region that scrolls where it is too wide.

    Args:
        block: the table. Its title is the caption, and its note stands under it.
        legend: a line under the table.
    """
    template = environment().get_template("table.html")
    return Markup(
        template.render(block=block, header=_header(block), rows=[*_rows(block)], legend=legend)
    )


def document(title: str, blocks: Sequence[Block], legend: str, definitions: Sequence[str]) -> str:
    """Return tables as a page of their own, with what must be known under them.

    Args:
        title: of the page.
        blocks: the tables.
        legend: a line under the last table.
        definitions: what the numbers mean. It comes last.
    """
    made = environment()
    template = made.get_template("document.html")
    return template.render(title=title, blocks=blocks, legend=legend, definitions=definitions)


def content_policy(script: str) -> str:
    """Return the policy under which a page asks for nothing and runs no script but one.

    Args:
        script: text between the tags of the page's script.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline';"
        f" script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


# --- cells ----------------------------------------------------------------------------------------


def _header(block: Block) -> list[tuple[str, str]]:
    """Return heading and kind of every column, as `Cell` describes it."""
    columns = []
    for column, heading in enumerate(block.header):
        kind = "number"
        if block.is_words(column):
            texts = [line[column] for line in block.lines]
            is_long = any(len(text) > SHORT and " " in text for text in texts)
            kind = "long words" if is_long else "words"
        columns.append((heading.replace("\n", " "), kind))
    return columns


def _rows(block: Block) -> Iterator[list[Cell]]:
    kinds = [kind for _, kind in _header(block)]
    named = block.names if block.repeated is None else block.repeated
    above: Sequence[str] = ("",) * len(block.header)
    for number, line in enumerate(block.lines):
        # A sorted line stands alone, so it needs the names that the line above it would give.
        again = [
            not text and column < min(NAMED_ONCE, block.names) for column, text in enumerate(line)
        ]
        texts = [
            its_above if repeats else text
            for text, its_above, repeats in zip(line, above, again, strict=True)
        ]
        above = texts
        yield [
            Cell(
                text.replace("\n", " "),
                kinds[column],
                column < named,
                _look(block.header[column], text) if kinds[column] != "number" else None,
                again[column],
                (number, column) in block.bold,
                _order(text) if kinds[column] == "number" else "",
            )
            for column, text in enumerate(texts)
        ]


def _look(heading: str, text: str) -> Look | None:
    """Return how a cell with a verdict or a state is shown, or None for one with other words."""
    its = look(text)
    stands_alone = its and SHARE.fullmatch(text.removeprefix(its.word))
    return its if heading in JUDGED or stands_alone else None


def _order(text: str) -> str:
    """Return the number that a cell begins with, by which its column is sorted, or ""."""
    found = NUMBER.match(text)
    return found.group(1).replace(",", "").lstrip("+") if found else ""
