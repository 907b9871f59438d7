"""Sentences in pictures: of any script, any length, and never a formula."""

import contextlib
import functools
import textwrap
import warnings
from collections.abc import Iterator

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageDraw, ImageFont

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


@functools.cache
def _faces(size: int) -> list[tuple[ImageFont.FreeTypeFont, frozenset[int]]]:
    """Return the regular face of each of `fonts` in a size, and the codes that it has glyphs of."""
    faces = []
    for name in fonts():
        path = font_manager.findfont(name)
        codes = frozenset(FT2Font(path).get_charmap())
        faces.append((ImageFont.truetype(path, size), codes))
    return faces


def draw_line(
    canvas: ImageDraw.ImageDraw, middle: int, top: int, line: str, size: int, color: str
) -> None:
    """Draw a line of text. Each character is of the first font that has it, or else a box.

    Args:
        canvas: of the picture.
        middle: of the line, in pixels from the left.
        top: of the line, in pixels.
        line: the text, without line breaks.
        size: of the letters, in pixels.
        color: as CSS names colors.
    """
    parts: list[tuple[ImageFont.FreeTypeFont, str]] = []
    for character in line:
        faces = _faces(size)
        font = next((font for font, codes in faces if ord(character) in codes), faces[0][0])
        if parts and parts[-1][0] is font:
            parts[-1] = (font, parts[-1][1] + character)
        else:
            parts.append((font, character))
    left = middle - sum(font.getlength(part) for font, part in parts) / 2
    for font, part in parts:
        # On one base line, whatever the fonts' heights are.
        canvas.text((left, top + size), part, fill=color, font=font, anchor="ls")
        left += font.getlength(part)


@contextlib.contextmanager
def quiet_glyphs() -> Iterator[None]:
    """Draw a box for a glyph that no font has, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support")
        yield
