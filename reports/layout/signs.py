"""How verdicts and statuses look: a sign beside the word, and what it says as a color.

A sign stands beside every colored word, so that nobody has to see the color.
"""

from typing import Literal, NamedTuple

Tone = Literal["good", "bad", "equal", "open", "none"]


class Look(NamedTuple):
    """How a word is shown.

    Attributes:
        word: the verdict or status without what is said with it.
        sign: one character.
        tone: what it says, which decides the color.
    """

    word: str
    sign: str
    tone: Tone


LOOKS = [
    Look("better", "▲", "good"),
    Look("confirmed", "▲", "good"),
    Look("done", "●", "good"),
    Look("worse", "▼", "bad"),
    Look("contradicted", "▼", "bad"),
    Look("failed", "×", "bad"),
    Look("damaged", "×", "bad"),
    Look("no relevant difference", "=", "equal"),
    Look("undecided", "?", "open"),
    Look("running", "◐", "open"),
    Look("planned", "○", "none"),
    Look("pruned", "○", "none"),
    Look("not planned", "–", "none"),
    Look("not resolved yet", "○", "none"),
    Look("not run", "○", "none"),
    Look("chosen on", "·", "none"),
]

VERDICTS = ("better", "worse", "no relevant difference", "undecided")


def legend() -> str:
    """Return which sign stands for which verdict, as a sentence."""
    return ", ".join(f"{its.sign} {its.word}" for its in LOOKS if its.word in VERDICTS) + "."


def look(text: str) -> Look | None:
    """Return how a cell that begins with a verdict or status looks, or None for other text."""
    fitting = [its for its in LOOKS if text.startswith(its.word)]
    return max(fitting, key=lambda its: len(its.word), default=None)
