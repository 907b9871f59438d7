"""Errors that a user can cause. Their messages say what to do, and no traceback is shown."""

import difflib
from collections.abc import Iterable

MOST_NEAR = 3
MOST_LISTED = 40  # names that a message lists, since a longer list hides what it says


class UserError(Exception):
    """Something that the user can put right.

    The message says what to do. The command line prints it and exits with 2, as it does where a
    call does not fit its options.
    """


class WorldError(UserError):
    """Something outside of the call that has to be put right: a full disk, a server that is down.

    The same call works once that is done. The command line exits with 1.
    """


class Busy(WorldError):
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
    # The user may have written only the beginning of a long name, such as a run key.
    beginnings: dict[str, list[str]] = {}
    for item in known:
        beginnings.setdefault(item[: len(name)], []).append(item)

    def begin_so(cutoff: float) -> list[str]:
        close = difflib.get_close_matches(name, beginnings, MOST_NEAR, cutoff)
        return [item for beginning in close for item in beginnings[beginning]][:MOST_NEAR]

    near = (
        difflib.get_close_matches(name, known, MOST_NEAR, 0.85)
        or begin_so(0.85)
        or difflib.get_close_matches(name, known, MOST_NEAR, 0.5)
        or begin_so(0.7)
    )
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    listed = f"valid are {', '.join(known)}"
    if len(known) > MOST_LISTED:
        listed = f"{len(known)} names are valid"
        listed += "" if near else f", such as {', '.join(known[:3])}"
    raise UserError(f"{what} '{name}' is not known: {hint}{listed}.")
