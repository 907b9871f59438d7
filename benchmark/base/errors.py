"""Errors that a user can cause. Their messages say what to do, and no traceback is shown."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something that the user can put right.

    The message says what to do. The command line prints it and exits with 1.
    """


class Busy(UserError):
    """Another process works on the run, so the caller may wait for it and try again."""


class Interrupted(Exception):
    """Somebody stopped the program (Ctrl-C or SIGTERM), and nothing is lost.

    The command line prints the message and exits with 130.
    """


class Pruned(Exception):
    """A search gave a run up after some epoch. Its state is saved, but it is no result."""


def choose(name: str, valid: Iterable[str], what: str) -> str:
    """Return `name` if it is one of `valid`.

    Args:
        name: what the user wrote.
        valid: the names that are allowed.
        what: what the message calls such a name, e.g. `method`.

    Raises:
        UserError: `name` is not valid. The message names the nearest valid ones first.
    """
    known = sorted(valid)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if not near:
        # The user may have written only the beginning of a long name, such as a run key.
        beginnings = {item[: len(name)]: item for item in known}
        near = [
            beginnings[item]
            for item in difflib.get_close_matches(name, beginnings, n=3, cutoff=0.7)
        ]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UserError(f"{what} '{name}' is not known: {hint}valid are {', '.join(known)}.")
