"""The one loop that waits for the jobs of matrices, grids, searches and robustness."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence

from benchmark.launch.base import JobStatus, Launcher

POLL_SECONDS = 0.5

Tick = Callable[[Mapping[str, JobStatus], bool], Sequence[str] | None]


class _StopRequest:
    """Remembers Ctrl-C and SIGTERM until the loop answers them.

    A signal may come in the middle of a call of the launcher, and a handler must not call it then.
    """

    def __enter__(self) -> "_StopRequest":
        self.came = False
        self.previous = {
            number: signal.signal(number, self._come) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _come(self, *_: object) -> None:
        self.came = True


def follow(
    launcher: Launcher, ids: Sequence[str], on_tick: Tick, seconds: float = POLL_SECONDS
) -> dict[str, JobStatus]:
    """Wait until jobs have ended, and return their final status, by id.

    After Ctrl-C or SIGTERM, all of them are asked once to save their state, and the loop goes on
    waiting until they have ended.

    Args:
        launcher: the launcher of the jobs.
        ids: the ids of the jobs that were submitted before.
        on_tick: called after each poll with the status of the jobs and whether a stop was asked
            for. It returns the ids of jobs that it has submitted in the meantime, or None where
            no more will come. The loop ends with the last job after it has returned None.
        seconds: the time between two polls.
    """
    followed = list(ids)
    statuses: dict[str, JobStatus] = {}

    def stop_all() -> None:
        launcher.stop([id for id in followed if id not in statuses or not statuses[id].over])

    with _StopRequest() as stop:
        try:
            while True:
                if stop.came:
                    stop_all()
                statuses = launcher.poll(followed)
                more = on_tick(statuses, stop.came)
                followed += more or ()
                if more is None and all(status.over for status in statuses.values()):
                    launcher.close()
                    return statuses
                time.sleep(seconds)
        finally:
            # After an error nobody would look after the jobs any more.
            if not launcher.outlives:
                stop_all()
