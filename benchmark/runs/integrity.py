"""The digests of a finished run's files, from which a change of a single byte is noticed.

`files.json` lists them when a run is done, and results under conditions as they are added. Runs of
earlier versions have no list.
"""

import contextlib
import fnmatch
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmark.base.files import atomic_write
from benchmark.base.locks import locked

FILE = "files.json"
WEIGHTS = "best.safetensors"
PATTERNS = (
    "spec.yaml",
    "environment.json",
    "metrics.jsonl",
    "result.json",
    "costs.json",
    WEIGHTS,
    "records/*.parquet",
    "masks/*.parquet",
)
# What a finished run gets later. It may be missing, since people delete what they want made again.
LATER = "robustness/*"
# The small files that carry what is said of a run.
SMALL = ("spec.yaml", "environment.json", "result.json", "metrics.jsonl", "costs.json")
SMALL_BYTES = 2**18


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """List the digests of the files of a run, which is done now.

    Raises:
        WorldError: the list cannot be written.
    """
    paths = sorted(path for pattern in PATTERNS for path in folder.glob(pattern))
    _write(folder, {str(path.relative_to(folder)): digest(path) for path in paths})


def unseal(folder: Path) -> None:
    """Delete the list of a run whose files are about to be made again."""
    (folder / FILE).unlink(missing_ok=True)


def renew(folder: Path, *names: str) -> None:
    """List the digests of files of a finished run that were added, or made again on purpose.

    Raises:
        WorldError: the list cannot be written.
    """
    patterns = (*PATTERNS, LATER)
    its = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if its and listed(folder):
        with _held(folder):
            _write(folder, listed(folder) | {name: digest(folder / name) for name in its})


def join(folder: Path, others: Mapping[str, str]) -> None:
    """List the digests that another list of the same run has of files that this one lacks.

    Raises:
        WorldError: the list cannot be written.
    """
    if listed(folder) and not others.keys() <= listed(folder).keys():
        with _held(folder):
            _write(folder, {**others, **listed(folder)})


def _held(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Keep others from changing the list in the same moment, of which one would be lost."""
    return locked(folder / ".files.lock")


def listed(folder: Path) -> dict[str, str]:
    """Return file -> digest, which is empty where there is no list or it cannot be read."""
    path = folder / FILE
    try:
        its = path.stat()
        return _list(path, its.st_mtime_ns, its.st_size)
    except (OSError, ValueError, RecursionError):
        return {}


@functools.lru_cache(maxsize=4096)
def _list(path: Path, mtime_ns: int, size: int) -> dict[str, str]:
    """Return the content of a list, which is read once as long as it stays the same."""
    known = json.loads(path.read_text())
    return known if isinstance(known, dict) else {}


def read(folder: Path, name: str) -> bytes:
    """Return the content of a file of a run.

    Raises:
        ValueError: it is not what the list says.
        OSError: it cannot be read.
    """
    wanted = listed(folder).get(name)
    if not wanted:
        return (folder / name).read_bytes()
    its = (folder / name).stat()
    same = _read_small if its.st_size <= SMALL_BYTES else _read_small.__wrapped__
    return same(folder / name, its.st_mtime_ns, its.st_size, its.st_ino, wanted)


@functools.lru_cache(maxsize=2048)
def _read_small(path: Path, mtime_ns: int, size: int, inode: int, wanted: str) -> bytes:
    """Return the content of a listed file. A small one is read once as long as it stays the same.

    Raises:
        ValueError: it is not what the list says.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != wanted:
        raise ValueError(f"{path.name} is not what it was when the run was done")
    return content


def changed(folder: Path, patterns: Iterable[str] = PATTERNS) -> str | None:
    """Return the name of the first file that is not as the list says, or None.

    Weights and masks may be missing, since archives leave weights out and old runs have no masks,
    and so may what was added later.

    Args:
        folder: the folder of a run.
        patterns: which of the listed files are compared.
    """
    for name, wanted in listed(folder).items():
        if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            continue
        try:
            if name in SMALL:
                read(folder, name)
            elif digest(folder / name) != wanted:
                return name
        except FileNotFoundError:
            if not name.startswith(("best.", "masks/", "robustness/")):
                return name
        except (OSError, ValueError):
            return name
    return None


def _write(folder: Path, digests: dict[str, str]) -> None:
    text = json.dumps(digests, indent=1, sort_keys=True) + "\n"
    atomic_write(folder / FILE, lambda temporary: temporary.write_text(text))
