"""What a run writes while it goes on: lines of metrics, and its sign of life."""

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from benchmark.evaluation.records import canonical
from benchmark.runs.rundir import RunDir
from benchmark.runs.status import HEARTBEAT_SECONDS


class Journal:
    """Writes the metrics and the heartbeat of a run, which the main process does.

    Args:
        run: the directory of the run.
        is_main: whether this is the main process. The others only count.
        log_every: optimizer steps per line of metrics.

    Attributes:
        lines: number of lines of metrics that were written.
        logged: name -> sum of a loss over the steps since the last line, and their number.
    """

    def __init__(self, run: RunDir, is_main: bool, log_every: int) -> None:
        self.run = run
        self.is_main = is_main
        self.log_every = log_every
        self.lines = 0
        self.logged: dict[str, float] = defaultdict(float)
        self.beat = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Return what a resume point holds of the journal."""
        return {"logged": dict(self.logged), "lines": self.lines}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go back to a resume point, or to the beginning, and drop the lines beyond it."""
        if state:
            self.logged = defaultdict(float, state["logged"])
            self.lines = state["lines"]
        if self.is_main:
            self.run.keep_metrics(self.lines)

    def log(
        self,
        losses: Mapping[str, float],
        step: int,
        epoch: int,
        is_last: bool,
        counts: Mapping[str, float],
    ) -> None:
        """Average the losses over `log_every` steps, and write a line of metrics.

        Args:
            losses: name -> value at a step. A step whose losses are not finite was skipped, and
                enters no average.
            step: number of optimizer steps that are done.
            epoch: the epoch that the step belongs to.
            is_last: whether it is the last step of the run, which ends a line.
            counts: name -> what was counted up to this step, which is written as it is.
        """
        if all(map(math.isfinite, losses.values())):
            for name, value in losses.items():
                self.logged[name] += value
            self.logged["steps"] += 1
        if step % self.log_every == 0 or is_last:
            count = self.logged.pop("steps", 0)
            averages = {name: value / count for name, value in self.logged.items()}
            self.line(step, epoch, averages | dict(counts))
            self.logged.clear()

    def line(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Append a line of metrics.

        Raises:
            UserError: the file cannot be written.
        """
        if self.is_main:
            self.run.log(step, epoch, canonical(values))
        self.lines += 1

    def alive(self, force: bool = False, **progress: Any) -> None:
        """Write the heartbeat now and then.

        Args:
            force: write it in any case.
            progress: fields of `RunStatus`.
        """
        now = time.monotonic()
        # A fifth of the interval leaves room for steps that take long.
        if self.is_main and (force or now - self.beat > HEARTBEAT_SECONDS / 5):
            self.run.write_status("running", **progress)
            self.beat = now
