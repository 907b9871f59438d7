"""Turns a pickle into JSON, as a program of its own that has little memory and little time.

    python -I -S plain_pickle.py MEMORY SECONDS < PICKLE > JSON

A few bytes can make a pickle that fills any memory, that takes for ever, or that ends the process
which reads it. Here it ends this process alone, whose limits are MEMORY bytes and SECONDS seconds.
The program imports nothing of the suite, so that it starts at once.

Exit codes: 0, the JSON is complete. FORBIDDEN, the pickle asks for something that could run code,
which the output names. DAMAGED, it is no pickle of plain data, and the output says why.
"""

import contextlib
import io
import json
import pickle
import resource
import sys
from typing import Any

FORBIDDEN = 3
DAMAGED = 4
# JSON writes anew what a pickle shares. Real files become at most three times as large.
MOST_CHARACTERS = 16 * 2**20
MOST_GROWTH = 8

# The interpreter of pickles raises these on bytes that are not a pickle or not a whole one.
DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class ForbiddenError(pickle.UnpicklingError):
    """A pickle asks for more than plain data."""


class _PlainUnpickler(pickle.Unpickler):
    """Loads containers and scalars, and refuses whatever has to be looked up by name.

    Opcodes of their own make containers and scalars, so plain data needs no look-up.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise ForbiddenError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise ForbiddenError("a persistent id")


def as_json(data: bytes) -> str:
    """Return the plain data of a pickle as JSON, with its sets and tuples as lists.

    Raises:
        ForbiddenError: it asks for a class or function.
        ValueError: its data are far larger than it is.
    """
    # Python 2 wrote REFER's files. Latin-1 reads any of its byte strings.
    plain = _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    text = json.dumps(plain, default=_as_list)
    if len(text) > MOST_CHARACTERS + MOST_GROWTH * len(data):
        raise ValueError("its data are far larger than the file")
    return text


def _as_list(value: Any) -> list[Any]:
    if not isinstance(value, set | frozenset):
        raise TypeError(f"it holds a {type(value).__name__}")
    return list(value)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    with contextlib.suppress(ValueError):  # macOS knows no limit of memory.
        resource.setrlimit(kind, (most, hard))


def main() -> int:
    """Turn the pickle that comes in into JSON, and return the exit code."""
    memory, seconds = map(int, sys.argv[1:])
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_CORE, 0)
    try:
        text, code = as_json(sys.stdin.buffer.read()), 0
    except ForbiddenError as error:
        text, code = str(error), FORBIDDEN
    except DAMAGE as error:
        # The message of a KeyError is the key alone.
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        text, code = said or type(error).__name__, DAMAGED
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    return code


if __name__ == "__main__":
    sys.exit(main())
