"""Sentences in pictures: of any script, any length, and never a formula."""

import contextlib
import functools
import textwrap
import warnings
from collections.abc import Iterator

from matplotlib import font_manager

from benchmark.base.texts import printable

MOST_LINES = 4
# The font that matplotlib brings along, and common ones that have what it lacks: Chinese, Japanese
# and Korean glyphs, and emoji.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "Hiragino Sans",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "Noto Emoji",
    "Symbola",
)


@functools.cache
def fonts() -> list[str]:
    """Return those of `FONTS` that this machine has, in which matplotlib looks for each glyph."""
    there = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in FONTS if name in there]


def wrapped(text: str, letters: int, lines: int = MOST_LINES) -> list[str]:
    """Return the lines of a text, of which a long one is cut short.

    Args:
        text: what data say.
        letters: greatest number of letters in a line.
        lines: greatest number of lines.
    """
    # All of a long text is not looked at.
    text = printable(text[: letters * (lines + 1)])
    return textwrap.wrap(text, letters, max_lines=lines, placeholder=" …")


@contextlib.contextmanager
def quiet_glyphs() -> Iterator[None]:
    """Draw a box for a glyph that no font has, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support")
        yield
