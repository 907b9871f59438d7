"""The jobs of a launcher end with it, however it died.

A launcher that is killed with -9, or whose terminal is closed, can tell its jobs nothing. Each job
therefore knows from its environment which process launched it, and looks for that process itself.
Only launchers whose jobs do not outlive them write that variable.
"""

import contextlib
import os
import signal
import threading
import time

import psutil

LAUNCHER = "RISBENCH_LAUNCHER"  # "<process id> <start time in seconds since 1970>"
POLL_SECONDS = 1.0
GRACE_SECONDS = 6.0  # A job whose launcher is gone has this long to save its state.


def is_alive(pid: int, started: float) -> bool:
    """Return whether the process with this id and start time (seconds since 1970) still runs.

    The id alone would not do, since another program may have got it in the meantime.
    """
    try:
        process = psutil.Process(pid)
        # Start times are counted from the boot. Setting the clock moves the time of the boot, and
        # the start time with it, by a little.
        return abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def launched_from_here() -> dict[str, str]:
    """Return the environment variable that tells children that this process launched them."""
    this = psutil.Process()
    return {LAUNCHER: f"{this.pid} {this.create_time()}"}


def end_with_launcher(grace: float = GRACE_SECONDS) -> None:
    """Let this process end when the one that launched it is gone.

    It is sent SIGTERM then, upon which a training saves its state. If it still runs after the
    grace, it is ended together with its descendants. Nothing happens where no launcher is noted.

    Called before anything heavy is imported, this also catches a launcher that dies meanwhile.

    Args:
        grace: seconds between the SIGTERM and the end.
    """
    noted = os.environ.get(LAUNCHER, "").split()
    if len(noted) != 2:
        return
    pid, started = int(noted[0]), float(noted[1])

    def look() -> None:
        while is_alive(pid, started):
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=look, name="launcher", daemon=True).start()
