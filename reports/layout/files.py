"""Tables as CSV, and the writing of a report's files."""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark.base.errors import WorldError
from benchmark.base.files import describe_unwritten
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
    whole = {
        file: content if isinstance(content, bytes) else content.encode()
        for file, content in contents.items()
    }
    aside = folder / ASIDE
    with locked(folder / LOCK):
        try:
            _put_in_place(folder)
            shutil.rmtree(aside, ignore_errors=True)  # of a writer that was killed
            try:
                aside.mkdir()
                for file, content in whole.items():
                    _write_aside(folder, file, content)
                aside.rename(folder / WHOLE)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            _put_in_place(folder)
            written = {folder / file for file in contents}
            for old in (path for name in owned for path in (folder / name).glob("*")):
                if old not in written and old.is_file():
                    old.unlink()
        except OSError as error:
            size = sum(map(len, whole.values()))
            raise WorldError(
                f"cannot write the report {folder} ({describe_unwritten(error, folder, size)}):"
                " make room or choose another --out folder, and start the same command again."
            ) from None
    return [folder / file for file in contents]


def _write_aside(folder: Path, file: str, content: bytes) -> None:
    """Write a file aside, and see that nothing is in the way of its place."""
    place, aside = folder / file, folder / ASIDE / file
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        raise OSError(errno.EISDIR, f"{place} is a directory")
    aside.parent.mkdir(parents=True, exist_ok=True)
    with aside.open("wb") as opened:
        opened.write(content)
        opened.flush()
        # The content must reach the disk before the name does, as in `atomic_write`.
        os.fsync(opened.fileno())


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
