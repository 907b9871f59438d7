"""The digest of a data set's content, and a cache so that the same files are read once for it."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs

from benchmark.base.errors import UserError
from benchmark.base.files import open_regular

KEPT = 500  # texts in the cache, of which a data set has one and its splits have one each


def content_digest(labels: list[str], paths: list[Path]) -> str:
    """Return the sha256 (hex) over the labelled contents of `paths`, in order.

    Where the files lie does not matter. The result is kept in the user's cache folder under a
    fingerprint of labels, paths, sizes and modification times.

    Args:
        labels: one for each file, which stands for it whatever its path is.
        paths: the files.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        stats = [path.stat() for path in paths]
        key = _sha256(
            f"{label} {path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
            for label, path, stat in zip(labels, paths, stats, strict=True)
        )
        if cached := remembered(key):
            return cached
        with ThreadPoolExecutor() as pool:
            digest = _sha256(
                f"{label} {content}"
                for label, content in zip(labels, pool.map(_file_sha256, paths), strict=True)
            )
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): check it and its permissions."
        ) from error
    # A file that was written a moment ago can change again within one tick of its modification
    # time, so its digest is not kept.
    if time.time() - max(stat.st_mtime for stat in stats) > 2:
        remember(key, digest)
    return digest


def _file_sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _cache_path() -> Path:
    return platformdirs.user_cache_path("risbench") / "digests.json"


def remembered(key: str) -> str | None:
    """Return what was remembered under a key, or None."""
    value = _cached().get(key)
    return value if isinstance(value, str) else None


def _cached() -> dict[str, str]:
    # The cache saves time alone, so one that is missing, unreadable or damaged counts as empty.
    try:
        cached = json.loads(_cache_path().read_bytes())
    except (OSError, ValueError):
        return {}
    return cached if isinstance(cached, dict) else {}


def remember(key: str, value: str) -> None:
    """Keep a text in the user's cache folder, from which the oldest goes when it is full."""
    path = _cache_path()
    cached = list({**_cached(), key: value}.items())[-KEPT:]
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    # A read-only or full home folder makes the next start slower, but is no reason to stop.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(dict(cached)))
        os.replace(temporary, path)
