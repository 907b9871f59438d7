"""How long a sync with MLflow takes, the first and one with nothing new."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmark.tracking import mlflow_experiment, mlflow_store
from reports.group_report import maker
from tests.speed.constructed import PLAN, construct

PASSES = 5  # with nothing new, of which the median counts


class Measured(NamedTuple):
    """What the syncs of a folder took, in seconds of wall time.

    Attributes:
        runs: number of finished runs.
        first: of the pass that sends every run, without what reports say and without uploads.
        uploads: of its files.
        reported: of the pass that adds what reports say.
        again: of a pass with nothing new.
    """

    runs: int
    first: float
    uploads: float
    reported: float
    again: float


def measure(counts: Sequence[int]) -> Iterator[Measured]:
    """Yield what syncs take for each number of constructed finished runs.

    The database is there already, since MLflow takes seconds to make one.
    """
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            runs = Path(folder) / "runs"
            runs.mkdir()
            mlflow_store.sync(runs)
            construct(runs, count, PLAN)
            uploads = _Stopwatch(mlflow_experiment.put)
            mlflow_experiment.put = uploads
            try:
                first = _seconds(partial(mlflow_store.sync, runs))
            finally:
                mlflow_experiment.put = uploads.called
            whole = partial(mlflow_store.sync, runs, reports=maker(runs))
            reported = _seconds(whole)
            again = [_seconds(whole) for _ in range(PASSES)]
            spent = uploads.seconds
            yield Measured(count, first - spent, spent, reported, statistics.median(again))


class _Stopwatch:
    """Adds up how long a function takes."""

    def __init__(self, called: Callable[..., None]) -> None:
        self.called = called
        self.seconds = 0.0

    def __call__(self, *arguments: Any) -> None:
        started = time.perf_counter()
        self.called(*arguments)
        self.seconds += time.perf_counter() - started


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def show(every: Sequence[Measured], console: Console) -> None:
    """Print a line for each number of runs."""
    table = Table(title="risbench sync into a database beside the runs", title_justify="left")
    headings = ("runs", "first, s", "ms a run", "its uploads, s", "reports, s", "nothing new, s")
    for heading in headings:
        table.add_column(heading, justify="right")
    for its in every:
        first = (f"{its.first:.2f}", f"{1000 * its.first / its.runs:.1f}", f"{its.uploads:.2f}")
        table.add_row(str(its.runs), *first, f"{its.reported:.2f}", f"{its.again:.3f}")
    console.print(table)
