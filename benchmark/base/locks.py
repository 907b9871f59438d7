"""Locks between processes. Each thing that only one process may change has a lock file.

These are the operating system's advisory locks (`filelock`, which is `flock` on Linux). A lock is
free again as soon as its process is dead, however it died.

On a network file system the locks hold between the nodes of a cluster only where the mount passes
them on. NFS 4 does so, and so do NFS 3 with lockd (Linux turns `flock` into a lock of the server
there) and Lustre mounted with `flock`. With `nolock` or `localflock` each node sees only the locks
of its own processes.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from benchmark.base.errors import Busy, WorldError


@contextlib.contextmanager
def locked(
    path: Path, busy: str | None = None, tell: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the lock file `path` inside the `with` block.

    Args:
        path: the lock file, which lies beside what it guards. It is made where it is missing.
        busy: message for the case that another process holds the lock. With None the call waits
            until the lock is free.
        tell: takes the message instead, before the call waits.

    Raises:
        Busy: another process holds the lock, and `busy` is given without `tell`.
        UserError: the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=-1 if busy is None else 0)
        try:
            lock.acquire()
        except Timeout:
            if tell is None:
                raise Busy(busy) from None
            tell(busy)
            lock.acquire(timeout=-1)
    except OSError as error:
        raise WorldError(
            f"cannot write {path.parent} ({error.strerror}): make room or choose another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a process of this machine, this one included, holds the lock file `path`."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0, is_singleton=False):
            return False
    except Timeout:
        return True
    except OSError:
        # The folder may only be read, so nobody can work in it.
        return False
