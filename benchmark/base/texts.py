"""Text that comes from data, files and other people, as a terminal may show it."""

import sys

from benchmark.base.addresses import masked

# They join and part letters of some scripts, and emoji.
JOINERS = "\u200c\u200d"


def say(message: str) -> None:
    """Print a message on stderr, as a terminal may show it."""
    print(printable(message), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return a text whose control characters are written out, such as `\\x1b`.

    A terminal obeys such characters: they move its cursor, change its title, or turn the order of
    letters around. Ends of lines and tabulators stay. Passwords in addresses become `***`, too.
    """
    text = masked(text)
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or letter in "\n\t" or letter in JOINERS
        else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in text
    )
