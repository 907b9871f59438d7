"""How long a report takes, and how that grows with the number of runs."""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.speed.constructed import PLAN, construct

# Runs a command on one core, and says the largest memory of its process in the end.
ON_ONE_CORE = """
import os, sys
from pathlib import Path

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from benchmark.cli.app import app, guarded

try:
    guarded(app)
finally:
    # The kernel's own count of this process, since `ru_maxrss` begins with that of the parent.
    (peak,) = [its for its in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in its]
    print(peak.split()[1], file=sys.stderr)
"""


class Measured(NamedTuple):
    """What one report took.

    Attributes:
        runs: number of finished runs.
        seconds: of wall time.
        cpu_seconds: of the processor.
        bytes: the largest resident memory.
    """

    runs: int
    seconds: float
    cpu_seconds: float
    bytes: int


def measure(counts: Sequence[int]) -> Iterator[Measured]:
    """Yield what `risbench report` takes, in a process of its own on one core, for each count."""
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            runs = Path(folder) / "runs"
            construct(runs, count, PLAN)
            command = ["report", PLAN, "--runs", str(runs), "--out", str(Path(folder) / "out")]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", ON_ONE_CORE, *command],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            seconds = time.perf_counter() - started
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            yield Measured(count, seconds, cpu, 1024 * int(done.stderr.split()[-1]))


def show(every: Sequence[Measured], console: Console) -> None:
    """Print a line for each count, with the time of each further run."""
    table = Table(title="risbench report on one core, 3 splits a run", title_justify="left")
    for heading in ("runs", "s", "s (processor)", "ms per further run", "MiB"):
        table.add_column(heading, justify="right")
    for number, its in enumerate(every):
        further = "–"
        if number:
            before = every[number - 1]
            more = its.cpu_seconds - before.cpu_seconds
            further = f"{1000 * more / (its.runs - before.runs):.1f}"
        cells = (str(its.runs), f"{its.seconds:.1f}", f"{its.cpu_seconds:.1f}", further)
        table.add_row(*cells, f"{its.bytes / 2**20:.0f}")
    console.print(table)
