"""Texts that are made again where they are lost, in the user's cache folder.

A text lies under the digest of all that it was made from, so what has changed is never taken for
what it was. Its first line is its own digest, so a damaged file counts as missing. The cache saves
time alone: where the folder cannot be read or written, everything is made anew.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

import platformdirs

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write, read_bytes

KEPT = 500  # texts of a kind, of which the oldest goes when there are more
MOST_BYTES = 2**22  # of a text


def key_of(*made_from: object) -> str:
    """Return the key of what is made from these values, which JSON can hold."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def recall(kind: str, key: str) -> str | None:
    """Return the text that was kept under a key, or None where none is there.

    Args:
        kind: what the text is, such as `word_pieces`.
        key: what `key_of` returned.
    """
    try:
        said, _, text = read_bytes(_path(kind, key), MOST_BYTES).decode().partition("\n")
    except (UserError, UnicodeDecodeError):
        return None
    return text if said == _digest(text) else None


def keep(kind: str, key: str, text: str) -> None:
    """Keep a text under a key, or do nothing where the folder cannot be written."""
    path = _path(kind, key)
    content = f"{_digest(text)}\n{text}"
    with contextlib.suppress(UserError, OSError):
        atomic_write(path, lambda temporary: temporary.write_text(content, "utf-8"))
        _forget(path.parent)


def age(kind: str, key: str) -> float | None:
    """Return for how many seconds a text has been kept, or None where none is there."""
    try:
        return time.time() - os.stat(_path(kind, key)).st_mtime
    except OSError:
        return None


def _forget(folder: Path) -> None:
    """Delete the oldest texts of a kind where there are too many."""
    texts = sorted(folder.glob("*.txt"), key=lambda path: path.stat().st_mtime)
    for path in texts[:-KEPT]:
        path.unlink(missing_ok=True)


def _path(kind: str, key: str) -> Path:
    return platformdirs.user_cache_path("risbench") / kind / f"{key}.txt"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
