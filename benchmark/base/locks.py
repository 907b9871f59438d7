"""Locks between processes: one lock file per thing that only one process may change at a time.

They are the operating system's advisory locks (`filelock`, `flock` on Linux), so a lock is free again as soon as its
process is dead, however it died. On network file systems they hold between the nodes of a cluster only where the mount
passes them on: NFS 4, NFS 3 with lockd (Linux turns `flock` into a lock of the server there), Lustre mounted with
`flock`. Elsewhere (`nolock`, `localflock`) each node sees the locks of its own processes alone.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from benchmark.base.errors import Busy, UserError


@contextlib.contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock file `path`, which is made.

    Args:
        path: the lock file, beside what it guards. busy: what to say where another process holds it; None: wait for it.

    Raises:
        Busy: another process holds the lock, and `busy` is given.
        UserError: the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=-1 if busy is None else 0)
        lock.acquire()
    except Timeout:
        raise Busy(busy) from None
    except OSError as error:
        raise UserError(
            f"cannot write {path.parent} ({error.strerror}): make room or choose another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether some process of this machine, this one included, holds the lock file `path`."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0, is_singleton=False):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that may only be read: nobody can work in it
        return False
