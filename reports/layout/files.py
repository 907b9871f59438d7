"""Tables as CSV, and the writing of a report's files."""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark.base.errors import WorldError
from benchmark.base.files import LEFT_SECONDS, atomic_write

ASIDE = ".new-"


def csv(table: pd.DataFrame) -> str:
    """Return a table as CSV.

    Numbers have six decimals, and tuples a space between their entries.
    """
    texts = table.map(lambda cell: " ".join(map(_plain, cell)) if isinstance(cell, tuple) else cell)
    return texts.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def _plain(entry: object) -> str:
    return f"{entry:.6f}" if isinstance(entry, float) else str(entry)


def write(
    folder: Path, contents: Mapping[str, str | bytes], owned: Sequence[str] = ()
) -> list[Path]:
    """Write files into a folder and return their paths.

    All of them are written aside before the first one replaces an old one. So a disk that is full
    keeps the old report whole.

    Args:
        folder: is made where it is missing.
        contents: file name, which may begin with folders -> content.
        owned: folders in it that hold nothing else. What an earlier report left there is deleted.

    Raises:
        WorldError: the folder cannot be written.
    """
    aside = folder / f"{ASIDE}{os.getpid()}"
    try:
        for file, content in contents.items():
            whole = content if isinstance(content, bytes) else content.encode()
            atomic_write(aside / file, lambda path, whole=whole: path.write_bytes(whole))
        for left in folder.glob(f"{ASIDE}*"):
            if left != aside and time.time() - left.stat().st_mtime > LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)  # of a writer that was killed
        for file in contents:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            # A reader, such as a browser, never finds half of a file.
            (aside / file).replace(folder / file)
    except OSError as error:
        raise WorldError(
            f"cannot write {folder} ({error.strerror}): make room or choose another --out folder,"
            " and start the same command again."
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    written = {folder / file for file in contents}
    for old in (path for name in owned for path in (folder / name).glob("*")):
        if old not in written and old.is_file():
            old.unlink()
    return [folder / file for file in contents]
