"""Names that data carry, and that become part of a path."""

import re

from benchmark.base.errors import UserError
from benchmark.base.texts import printable

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


def check_name(name: object, what: str) -> None:
    """Check that a name can become part of a path, and cannot lead out of its folder.

    Args:
        name: the name of a split, data set, file or corruption.
        what: what the message calls it, with where it stands.

    Raises:
        UserError: it is no such name.
    """
    if isinstance(name, str) and NAME.fullmatch(name) and ".." not in name:
        return
    shown = printable(f"{name:.40}") if isinstance(name, str) else repr(name)[:40]
    raise UserError(
        f"{what} is called {shown!r}, which cannot name a file: use 1 to 64 letters (a to z),"
        " digits and . _ + -, without two dots in a row."
    )
