"""Reading of pickles that others wrote.

A file is read as plain data or refused with one sentence. Code in it is never run, and it cannot
take more memory or time than a file of its size needs.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.files import read_bytes
from benchmark.data import plain_pickle

# Memory in bytes and time in seconds of the process that reads a pickle: what any may take, and
# what one may take more for each byte. REFER's largest file has 40 MB and needs 10 bytes a byte.
MEMORY = 512 * 2**20
MEMORY_PER_BYTE = 32
SECONDS = 2
SECONDS_PER_BYTE = 1e-6


def read_pickle(path: Path) -> Any:
    """Return the plain data of a pickle: dicts, lists, strings and numbers.

    Sets and tuples are returned as lists.

    Raises:
        UserError: the file cannot be read, is damaged, asks for a class or function, or needs far
            more memory or time than others of its size. What it asks for is not run.
    """
    data = read_bytes(path)
    limits = (MEMORY + MEMORY_PER_BYTE * len(data), SECONDS + SECONDS_PER_BYTE * len(data))
    # Where the interpreter itself falls over a pickle, it is that of a child which does.
    child = subprocess.run(
        [sys.executable, "-I", "-S", plain_pickle.__file__, *(str(int(limit)) for limit in limits)],
        input=data,
        capture_output=True,
        check=False,
    )
    if child.returncode == 0:
        return json.loads(child.stdout)
    said = child.stdout.decode(errors="replace")
    if child.returncode == plain_pickle.FORBIDDEN:
        raise UserError(
            f"{path} asks for {said}, which could run code and which no REFER file needs. Nothing"
            " was run: get the file from a source that you trust."
        )
    if child.returncode != plain_pickle.DAMAGED:
        said = "reading it takes far more time or memory than its size explains"
    raise UserError(f"{path} is damaged or not a pickle ({said}): get it again.")
