"""Files that others wrote: read as plain data, or refused in one sentence; nothing in them is ever run."""

import io
import pickle
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.files import describe_error, read_bytes

# What the interpreter of pickles raises on bytes that are not a pickle, or not a whole one.
_DAMAGE = (
    *(pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError),
    *(LookupError, MemoryError, TypeError, ValueError),
)


class _ForbiddenError(pickle.UnpicklingError):
    """A pickle asks for more than plain data."""


class _PlainUnpickler(pickle.Unpickler):
    """Loads containers and scalars, which opcodes of their own make, and nothing that has to be looked up by name."""

    def find_class(self, module: str, name: str) -> Any:
        raise _ForbiddenError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _ForbiddenError("a persistent id")


def read_pickle(path: Path) -> Any:
    """Return the plain data (dicts, lists, tuples, sets, strings, numbers) of a pickle; Python 2's strings are latin-1.

    Raises:
        UserError: the file cannot be read, is damaged, or asks for a class or function, which is refused and not run.
    """
    data = read_bytes(path)
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _ForbiddenError as error:
        raise UserError(
            f"{path} asks for {error}, which could run code and which no REFER file needs: nothing was run; "
            "get the file from a source that you trust."
        ) from error
    except _DAMAGE as error:
        raise UserError(
            f"{path} is damaged or not a pickle ({describe_error(error)}): get it again."
        ) from error
