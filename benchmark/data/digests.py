"""The digest of a data set's content, and the cache that spares hashing it again."""

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

KEPT = 100  # more data sets than this make the oldest be hashed again


def content_digest(labels: list[str], paths: list[Path]) -> str:
    """Return the sha256 (hex) over the labelled contents of `paths`, in order; where the files lie does not matter.

    The result is kept in the user's cache folder under a fingerprint of labels, paths, sizes
    and modification times, so that the same files are hashed once.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        stats = [path.stat() for path in paths]
        key = _sha256(
            f"{label} {path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
            for label, path, stat in zip(labels, paths, stats, strict=True)
        )
        cached = _cached_digests().get(key)
        if isinstance(cached, str):
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
    # A file written a moment ago could change again within one tick of its modification time: not kept.
    if time.time() - max(stat.st_mtime for stat in stats) > 2:
        _cache_digest(key, digest)
    return digest


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _cache_path() -> Path:
    return platformdirs.user_cache_path("risbench") / "digests.json"


def _cached_digests() -> dict[str, str]:
    # The cache saves time alone: one that is missing, unreadable or damaged is an empty one.
    try:
        cached = json.loads(_cache_path().read_bytes())
    except (OSError, ValueError):
        return {}
    return cached if isinstance(cached, dict) else {}


def _cache_digest(key: str, digest: str) -> None:
    path = _cache_path()
    cached = list({**_cached_digests(), key: digest}.items())[-KEPT:]
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(
        OSError
    ):  # a read-only or full home costs the next start a while, and is no reason to stop
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(dict(cached)))
        os.replace(aside, path)
