"""Shows runs in a store while they go on.

A child process syncs every few seconds. This module starts it and holds the loop that it runs.
"""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from benchmark.base.errors import UserError, WorldError
from benchmark.base.parent import launched_from_here
from benchmark.base.texts import say
from benchmark.launch.jobs import PYTHON, own_code
from benchmark.tracking import DEFAULT
from benchmark.tracking.group_report import ReportMaker
from benchmark.tracking.tracker import Tracker

# Reports take at most this share of the time, and one is not followed by another one sooner.
REPORT_SHARE = 0.05
REPORT_SECONDS = 60.0


def start(runs: Path, address: str | None, tracker: str = DEFAULT) -> subprocess.Popen:
    """Start the child that shows the run directories in a store while they grow.

    Args:
        runs: folder of the run directories. It is made where it is missing.
        address: of the store. It may hold a password, so the child gets it in its environment.
        tracker: name of the tracker.

    Raises:
        UserError: the folder of the runs cannot be written.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        log = (runs / "sync.log").open("a")
    except OSError as error:
        raise WorldError(
            f"cannot write {runs} ({error.strerror}): make room or choose another --runs folder."
        ) from None
    command = [*PYTHON, "benchmark.cli", "sync", "--watch"]
    command += ["--runs", str(runs), "--tracker", tracker]
    environment = os.environ | own_code() | launched_from_here()
    if address:
        environment["MLFLOW_TRACKING_URI"] = address
    # The child unblocks SIGTERM once it can answer it. So it makes its last pass even if it is told
    # to stop while it still imports MLflow.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        with log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def stop(child: subprocess.Popen, seconds: float = 90) -> bool:
    """Tell the child to make its last pass and to end.

    Args:
        child: from `start`.
        seconds: how long it may take. After that it is killed.

    Returns:
        Whether the last pass succeeded in time.
    """
    child.terminate()
    try:
        return child.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        child.kill()
        return False


def watch(
    tracker: Tracker,
    runs: Path,
    address: str | None = None,
    stop: threading.Event | None = None,
    interval: float = 5.0,
    reports: ReportMaker | None = None,
) -> None:
    """Sync every `interval` seconds until it is told to stop, and once more before it returns.

    A store that is down or a damaged run is reported once on stderr and tried again. The runs never
    wait for it. Reports are made again only now and then, since every new result changes them.

    Args:
        tracker: of the store.
        runs: folder of the run directories.
        address: of the store, which is one in that folder by default.
        stop: an event that ends it. SIGTERM and Ctrl-C end it in any case, and the end of the
            command that started it comes as SIGTERM, too (see `base.parent`).
        interval: seconds between two passes.
        reports: makes what is said of groups.

    Raises:
        UserError: the last sync did not succeed.
    """
    event = stop or threading.Event()
    stopped = False

    def on_signal(*_: object) -> None:
        # It sets no event, which could wait for a lock that the interrupted code holds.
        nonlocal stopped
        stopped = True

    def over() -> bool:
        return stopped or event.is_set()

    previous = {}
    # Only the main thread of a process may set handlers.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, on_signal)
    # Whoever started this process may have blocked them until now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, previous)
    reported = ""
    next_reports = 0.0
    try:
        while not over():
            started = time.monotonic()
            is_due = started >= next_reports
            try:
                summary = tracker.sync(runs, address, reports, later=not is_due)
                problem = "\n".join(summary.failures)
            except UserError as error:
                problem = str(error)
            if is_due:
                took = time.monotonic() - started
                next_reports = started + max(REPORT_SECONDS, took / REPORT_SHARE)
            if problem != reported:
                message = problem or "the tracking store is up to date again"
                say(message)
                reported = problem
            next_pass = time.monotonic() + interval
            while not over() and time.monotonic() < next_pass:
                time.sleep(min(0.2, interval))
        say(str(tracker.sync(runs, address, reports)))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
