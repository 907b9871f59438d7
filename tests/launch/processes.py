"""Small jobs, and how tests wait for them."""

import time

from benchmark.launch.base import JobStatus, Launcher, State
from benchmark.launch.watch import follow

SLEEPING = "import time; print('up', flush=True); time.sleep(60)"
SAVING = """
import signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(130)
signal.signal(signal.SIGINT, save)
print("up", flush=True)
time.sleep(60)
"""


def wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


def finish(launcher: Launcher, ids: list[str], watch=lambda statuses: None) -> list[JobStatus]:
    """Return how jobs ended, in order."""
    statuses = follow(launcher, ids, lambda statuses, _: watch(statuses), 0.02)
    return [statuses[id] for id in ids]


def running(launcher: Launcher, ids: list[str]) -> int:
    return sum(status.state == State.RUNNING for status in launcher.poll(ids).values())


UUIDS = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6, MIG-b2f4ad12-0f2c-5b1e-a3a7-d2f33f5d0f4f"
SEEN = "import os; print(os.environ['CUDA_VISIBLE_DEVICES']); import time; time.sleep(0.3)"
