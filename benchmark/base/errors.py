"""Errors that a user can cause: one sentence, what to do, no traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right. The message is one sentence that says what to do; the CLI prints it and exits 1."""


class Busy(UserError):
    """Another process works on the run; it can be waited for."""


class Interrupted(Exception):
    """A stop was asked for (Ctrl-C, SIGTERM) and nothing is lost; the CLI prints the message and exits 130."""


class Pruned(Exception):
    """A search gave a run up after some epoch; its state is saved, and it is no result."""


def choose(name: str, valid: Iterable[str], what: str) -> str:
    """Return `name` if it is one of `valid`.

    Raises:
        UserError: it is not; the message names the nearest valid ones first.
    """
    known = sorted(valid)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if not near:  # the beginning of a long name, such as a run key
        beginnings = {item[: len(name)]: item for item in known}
        near = [
            beginnings[item]
            for item in difflib.get_close_matches(name, beginnings, n=3, cutoff=0.7)
        ]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UserError(f"{what} '{name}' is not known: {hint}valid are {', '.join(known)}.")
