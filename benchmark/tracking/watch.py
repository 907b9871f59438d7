"""Projecting runs while they go on: a child process that syncs every few seconds, and the loop that it runs."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.launch.jobs import PYTHON, own_code
from benchmark.tracking import DEFAULT
from benchmark.tracking.tracker import Tracker


def start(runs: Path, address: str | None, tracker: str = DEFAULT) -> subprocess.Popen:
    """Start the child that projects the run directories into a store while they grow.

    Args:
        runs: folder of the run directories. address: of the store, which may hold a password and so is handed down in the
            environment. tracker: name of the store's kind.

    Raises:
        UserError: the folder of the runs, which need not be there yet, cannot be written.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        log = (runs / "sync.log").open("a")
    except OSError as error:
        raise UserError(
            f"cannot write {runs} ({error.strerror}); make room or choose another --runs folder."
        ) from None
    command = [*PYTHON, "benchmark.cli", "sync", "--watch"]
    command += ["--runs", str(runs), "--tracker", tracker]
    environment = os.environ | own_code() | ({"MLFLOW_TRACKING_URI": address} if address else {})
    # The child unblocks SIGTERM once it can answer it: asked to stop while it still imports MLflow, it makes its last pass
    # all the same.
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
    """Ask the sync child for its last pass; return whether it got through in time."""
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
    stop: threading.Event | int | None = None,
    interval: float = 5.0,
) -> None:
    """Sync every `interval` seconds until it is asked to stop, and once more before it returns.

    A store that is down, or a damaged run, is reported once on stderr and tried again; the runs never wait for it.

    Args:
        tracker: of the store. runs: folder of the run directories. address: of the store.
        stop: an event that ends it, or the id of the parent process [the present one]. The end of the parent, SIGTERM and
            Ctrl-C end it in any case.

    Raises:
        UserError: the last sync did not get through.
    """
    event = stop if isinstance(stop, threading.Event) else threading.Event()
    parent = stop if isinstance(stop, int) else os.getppid()
    asked = False

    def ask(
        *_: object,
    ) -> None:  # sets no event: that could wait for a lock that the interrupted code holds
        nonlocal asked
        asked = True

    def over() -> bool:
        return asked or event.is_set() or os.getppid() != parent

    in_main = threading.current_thread() is threading.main_thread()
    previous = {
        number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT) if in_main
    }
    signal.pthread_sigmask(
        signal.SIG_UNBLOCK, previous
    )  # whoever started this process may have held them back until now
    told = ""
    try:
        while not over():
            try:
                failed = tracker.sync(runs, address).failures
                trouble = "\n".join(failed)
            except UserError as error:
                trouble = str(error)
            if trouble != told:
                print(
                    trouble or "the tracking store is up to date again", file=sys.stderr, flush=True
                )
                told = trouble
            next_pass = time.monotonic() + interval
            while not over() and time.monotonic() < next_pass:
                time.sleep(min(0.2, interval))
        print(tracker.sync(runs, address), file=sys.stderr, flush=True)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
