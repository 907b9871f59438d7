"""Notices a run that lives and makes no step, as with a dead loader or a hung collective call.

What hangs cannot be ended from within. The process therefore writes where all of its threads are
into its log, and takes its own place once more. Several processes end instead, and torchrun starts
all of them anew. The run goes on from its resume point.
"""

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psutil

from benchmark.runs.rundir import RunDir

FACTOR = 20  # A step may take this many times as long as the longest one before it.
# The first step may come after this many times the seconds that a step may always take. Large data
# are read and processes find each other before it, and neither says how far it is.
FIRST = 6
RETRIED = "RISBENCH_RETRIED"
RESTARTS = "TORCHELASTIC_RESTART_COUNT"  # how often torchrun has started all processes anew
FOLLOW_SECONDS = 10.0  # The first process writes the status before torchrun ends it.


class StallWatch:
    """Waits for signs of life from a loop, and calls a function where none comes for too long.

    Args:
        least: seconds without a sign that are always allowed. Beyond them, `FACTOR` times the
            longest time between two signs is allowed.
        on_stall: called with the seconds without a sign, in a thread of its own.
        first: `least` times this are allowed before the first sign.
    """

    def __init__(
        self, least: float, on_stall: Callable[[float], None], first: float = FIRST
    ) -> None:
        self.least = least
        self.on_stall = on_stall
        self.first = first
        self.longest = 0.0
        self.silent = 0.0
        self._is_begun = False
        self._stop = threading.Event()

    def sign(self) -> None:
        """Note that the loop goes on. The first sign says that it begins."""
        if self._is_begun:
            self.longest = max(self.longest, self.silent)
        self.silent = 0.0
        self._is_begun = True

    def prepare(self) -> None:
        """Note that the preparation goes on. It counts for nothing once the loop has begun."""
        if not self._is_begun:
            self.silent = 0.0

    @property
    def limit(self) -> float:
        """The seconds without a sign that are allowed now."""
        if not self._is_begun:
            return self.first * self.least
        return max(self.least, FACTOR * self.longest)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while a block runs."""
        threading.Thread(target=self._watch, name="stall watch", daemon=True).start()
        try:
            yield
        finally:
            self._stop.set()

    def _watch(self) -> None:
        interval = self.least / 20
        looked = time.monotonic()
        while not self._stop.wait(interval):
            now = time.monotonic()
            # A process that was suspended was not silent in that time.
            self.silent += min(now - looked, 2 * interval)
            looked = now
            if self.silent > self.limit:
                self.on_stall(self.silent)
                return


def is_retried() -> bool:
    """Return whether this process was started anew."""
    return RETRIED in os.environ or os.environ.get(RESTARTS, "0") != "0"


def retry_or_fail(run: RunDir, seconds: float) -> None:
    """Start this process anew in its own place or, where that was done before, let the run fail.

    Either way the stacks of all threads are written to the log first, and the loaders are ended.
    It never returns.

    Args:
        run: the directory of the run.
        seconds: how long the run has made no step.
    """
    # Beside a progress bar, `sys.stderr` is not the log.
    log = sys.__stderr__
    faulthandler.dump_traceback(log, all_threads=True)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    if not is_retried():
        print(f"{run.key} made no step for {seconds:.0f} s, so it is started anew.", file=log)
        log.flush()
        if os.environ.get("WORLD_SIZE", "1") != "1":
            os._exit(os.EX_TEMPFAIL)
        again = {**os.environ, RETRIED: "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], again)
    reason = (
        f"it made no step for {seconds:.0f} s, also after it was started anew: the stacks in the"
        " log say where it waits"
    )
    if os.environ.get("RANK", "0") == "0":
        run.fail(reason)
        print(f"error: {run.key}: {reason}.", file=log)
    else:
        time.sleep(FOLLOW_SECONDS)
    log.flush()
    os._exit(1)
