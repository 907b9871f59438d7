"""Text from elsewhere, as a terminal shows it."""

import io

import pytest

from benchmark.base.texts import printable
from benchmark.cli.options import Terminal
from reports.layout import terminal
from reports.layout.block import Block


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the red box", "the red box"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("two\nlines\tand\rone", "two\nlines\tand\\rone"),
        ("\x9b31m \x00", "\\x9b31m \\x00"),
        ("猫 نص 🙂 👩\u200d🚀 é", "猫 نص 🙂 👩\u200d🚀 é"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert printable(text) == shown


def test_a_terminal_takes_nothing_for_markup():
    file = io.StringIO()
    console = Terminal(file=file, markup=False, emoji=False, force_terminal=True, width=200)
    hostile = "[bold]x[/bold] :smiley: [link=http://evil]y[/link] \x1b]0;title\x07"
    said = hostile.replace("\x1b", "\\x1b").replace("\x07", "\\x07")
    console.print(hostile, highlight=False)
    assert file.getvalue() == f"{said}\n"
    file.truncate(file.seek(0))
    block = Block(hostile, hostile, (hostile, "a\x1b[31m"), [(hostile, hostile)], names=1)
    terminal.print_blocks(console, [block], [hostile], 200)
    text = file.getvalue()
    # The terminal's own escape sequences set colors and nothing else.
    assert "\x1b]" not in text and "\x1b[2J" not in text and "\x07" not in text
    assert "[bold]x[/bold] :smiley:" in text and "\\x1b]0;title" in text
