"""The digest of a data set's content, and a cache so that the same files are read once for it."""

import hashlib
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmark.base import cache
from benchmark.base.errors import UserError
from benchmark.base.files import open_regular

KIND = "digests"


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
        if cached := cache.recall(KIND, key):
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
        cache.keep(KIND, key, digest)
    return digest


def _file_sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
