"""Reading of pickles that others wrote.

A file is read as plain data or refused with one sentence. Code in it is never run.
"""

import io
import pickle
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.files import describe_error, read_bytes

# The interpreter of pickles raises these on bytes that are not a pickle or not a whole one.
_DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)


class _ForbiddenError(pickle.UnpicklingError):
    """A pickle asks for more than plain data."""


class _PlainUnpickler(pickle.Unpickler):
    """Loads containers and scalars, and refuses whatever has to be looked up by name.

    Opcodes of their own make containers and scalars, so plain data needs no look-up.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise _ForbiddenError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _ForbiddenError("a persistent id")


def read_pickle(path: Path) -> Any:
    """Return the plain data of a pickle: dicts, lists, tuples, sets, strings and numbers.

    Raises:
        UserError: the file cannot be read, is damaged, or asks for a class or function. What it
            asks for is not run.
    """
    data = read_bytes(path)
    try:
        # Python 2 wrote REFER's files. Latin-1 reads any of its byte strings.
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _ForbiddenError as error:
        raise UserError(
            f"{path} asks for {error}, which could run code and which no REFER file needs. Nothing"
            " was run: get the file from a source that you trust."
        ) from error
    except _DAMAGE as error:
        raise UserError(
            f"{path} is damaged or not a pickle ({describe_error(error)}): get it again."
        ) from error
