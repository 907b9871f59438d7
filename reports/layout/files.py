"""Tables as CSV, and the writing of a report's files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark.base.files import atomic_write


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
        WorldError: the folder cannot be written.
    """
    for file, content in contents.items():
        whole = content if isinstance(content, bytes) else content.encode()
        # A reader, such as a browser, never finds half of a file.
        atomic_write(folder / file, lambda aside, whole=whole: aside.write_bytes(whole))
    written = {folder / file for file in contents}
    for old in (path for name in owned for path in (folder / name).glob("*")):
        if old not in written and old.is_file():
            old.unlink()
    return [folder / file for file in contents]
