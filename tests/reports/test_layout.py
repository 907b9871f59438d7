"""Blocks in every format: what is escaped, and what a narrow terminal does with a wide table."""

import re
from io import StringIO

import pytest
from rich.console import Console

from reports.layout import latex, markdown, numbers, terminal
from reports.layout.block import Block, named_once


def printed(block, width):
    stream = StringIO()
    terminal.print_blocks(Console(file=stream, width=width), [block], [], width)
    return stream.getvalue()


def test_latex_escapes_what_would_be_a_command():
    assert latex.escaped("a_b 5% & {x} #1 $ ^~\\ ± –") == (
        r"a\_b 5\% \& \{x\} \#1 \$ \textasciicircum{}\textasciitilde{}\textbackslash{} $\pm$ --"
    )
    assert latex.escaped("+1.20 [-0.50, 2.00] rn-50") == "$+$1.20 [$-$0.50, 2.00] rn-50"


def test_numbers_are_never_a_negative_zero_and_have_their_units(monkeypatch):
    assert numbers.number(-0.00001) == "0.00" and numbers.number(0.5, sign="+") == "+50.00"
    assert numbers.number(float("nan")) == numbers.NOTHING
    assert numbers.plus_minus(12.5, 0.25, 1) == "12.50 ± 0.25"
    assert numbers.difference(0.01, float("nan"), float("nan")) == "+1.00 (no interval)"


def test_names_stand_once_until_something_before_them_changes():
    lines = [("val", "a", "x", "1"), ("val", "a", "y", "1"), ("test", "a", "y", "1")]
    assert named_once(lines) == [
        ("val", "a", "x", "1"),
        ("", "", "y", "1"),
        ("test", "a", "y", "1"),
    ]


def test_headings_without_a_table_are_left_out():
    text = markdown.document(["# a", "## one", "text", "## two", "## three", "", "## four"])
    assert text == "# a\n\n## one\n\ntext\n"


@pytest.mark.parametrize("width", [40, 60, 200])
def test_a_wide_table_goes_on_below_with_its_names_repeated(width):
    values = [f"{number}23.45" for number in range(9)]
    header = ("split", "method", "seed", *(f"metric{number}" for number in range(9)))
    block = Block("wide", "", header, [("val", "cris", "0", *values)], names=2, repeated=3)
    text = printed(block, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width and "…" not in text
    assert all(text.count(value) == 1 for value in values)
    assert text.count("cris") == text.count("seed") == text.count("wide")
    assert (text.count("wide") == 1) == (width == 200)


def test_text_from_data_is_no_markup_in_markdown():
    """A reason of a failure or a name may hold anything."""
    hostile = 'a <b>x</b> <img src=x onerror="y"> [click](http://evil) ![i](http://evil) p < 0.05'
    block = Block(hostile, hostile, ("row", "v|w"), [("\\|", "1")], names=1)
    text = markdown.table(block) + markdown.bullets([hostile])
    assert not re.search(r"<[A-Za-z/!?]", text) and "](" not in text
    assert "p < 0.05" in text, "what is no markup stays as it is"
    lines = [line for line in text.splitlines() if line.startswith("|")]
    # Each line has two cells, whatever bars and backslashes stand in them.
    assert all(len(re.findall(r"\|", line)) == 3 for line in lines)


def test_a_bracket_at_the_head_of_a_latex_row_is_no_height():
    block = Block("t", "", ("a", "b"), [("[1, 2]", "3 ²")], names=1)
    text = latex.tabular([block])
    assert "{}[1, 2] & 3 $^2$" in text


def test_bold_cells_are_bold_in_every_format_and_move_with_their_column():
    block = Block(
        "t", "", ("a", "b", "c"), [("x", "1", "2"), ("y", "3", "4")], 1, None, frozenset({(1, 2)})
    )
    assert "**4**" in markdown.table(block) and r"\textbf{4}" in latex.tabular([block])
    assert block.part([0, 2]).bold == {(1, 1)} and not block.part([0, 1]).bold
