"""The one loop that waits for jobs: of a matrix, of a grid, of a search, of robustness."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence

from benchmark.launch.base import JobStatus, Launcher

POLL_SECONDS = 0.5

Tick = Callable[[Mapping[str, JobStatus], bool], Sequence[str] | None]


class _StopRequest:
    """Remembers Ctrl-C and SIGTERM until the loop answers them.

    A signal may come in the middle of a call of the launcher, which must not be called again then.
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
    """Wait until jobs have ended, and return how, by id.

    Ctrl-C or SIGTERM asks all of them once to save their state and end, and goes on waiting for
    them.

    Args:
        launcher: knows the jobs. ids: of those that were submitted before.
        on_tick: called after every look at the jobs, with how they stand and whether a stop was
            asked for. It returns the ids of jobs that it has submitted meanwhile, or None where
            no more will come: then the last job that ends is the end of it all.
        seconds: between two looks.
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
                    return statuses
                time.sleep(seconds)
        finally:
            # Where an error ended the loop, nobody would be there for the jobs any more.
            if not launcher.outlives:
                stop_all()
