"""Tables as CSV, and the writing of a report's files."""

import errno
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark.base.errors import WorldError
from benchmark.base.files import atomic_write
from benchmark.base.locks import locked

# Hidden entries of a report's folder: who writes it, what is written by now, and a whole report
# whose files go to their places.
LOCK = ".lock"
ASIDE = ".new"
WHOLE = ".whole"


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

    All of them are written aside before the first one replaces an old one, and reports on one
    folder wait for each other. A writer that is killed while it writes leaves the old report. One
    that is killed while it replaces the files has a whole report lying there, which the next call
    puts in place before it does anything else.

    Args:
        folder: is made where it is missing.
        contents: file name, which may begin with folders -> content.
        owned: folders in it that hold nothing else. What an earlier report left there is deleted.

    Raises:
        WorldError: the folder cannot be written. The old report is kept.
    """
    with locked(folder / LOCK):
        try:
            _put_in_place(folder)  # what a writer that was killed had ready
            _write_aside(folder, contents)
            _put_in_place(folder)
            written = {folder / file for file in contents}
            for old in (path for name in owned for path in (folder / name).glob("*")):
                if old not in written and old.is_file():
                    old.unlink()
        except OSError as error:
            raise WorldError(
                f"cannot write the report {folder} ({error.strerror}): make room or choose another"
                " --out folder, and start the same command again."
            ) from None
    return [folder / file for file in contents]


def _write_aside(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write a report as a whole beside the one that it will replace."""
    aside = folder / ASIDE
    shutil.rmtree(aside, ignore_errors=True)  # of a writer that was killed
    try:
        aside.mkdir()
        for file, content in contents.items():
            if (folder / file).is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{folder / file} is a directory")
            whole = content if isinstance(content, bytes) else content.encode()
            atomic_write(aside / file, lambda path, whole=whole: path.write_bytes(whole))
        aside.rename(folder / WHOLE)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put_in_place(folder: Path) -> None:
    """Move the files of a whole report to their places, if one lies aside."""
    whole = folder / WHOLE
    for path in sorted(whole.rglob("*")):
        if path.is_file():
            place = folder / path.relative_to(whole)
            place.parent.mkdir(parents=True, exist_ok=True)
            # A reader, such as a browser, never finds half of a file.
            path.replace(place)
    if whole.exists():
        shutil.rmtree(whole)
