"""Tables as CSV, and the writing of a report's files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark.base.errors import WorldError


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

    Args:
        folder: is made where it is missing.
        contents: file name, which may begin with folders -> content.
        owned: folders in it that hold nothing else. What an earlier report left there is deleted.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        for file, content in contents.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            # A reader, such as a browser, never finds half of a file.
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            aside.write_bytes(content if isinstance(content, bytes) else content.encode())
            aside.replace(path)
        written = {folder / file for file in contents}
        for old in (path for name in owned for path in (folder / name).glob("*")):
            if old not in written and old.is_file():
                old.unlink()
    except OSError as error:
        raise WorldError(
            f"the report cannot be written to {folder} ({error.strerror}): choose another --out"
            " folder."
        ) from None
    return [folder / file for file in contents]
