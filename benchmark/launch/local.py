"""How runs are started: one process each, a few at a time, watched through their run directories."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmark.launch.progress import progress_lines, show_progress
from benchmark.runs.execution import Execution, Place
from benchmark.runs.rundir import RunDir, fail

POLL_SECONDS = 0.5
STOPPED = 130  # exit code of a process that was asked to stop and saved its state
GRACE_SECONDS = 120  # for a run that was asked to stop to save its state


@dataclasses.dataclass
class Outcome:
    """What became of a run: `done`, `failed` with a reason, or `stopped`."""

    key: str
    state: str
    reason: str = ""


def run_command(run: RunDir, place: Place, execution: Execution, processes: int = 1) -> list[str]:
    """Return the command line that works on one planned run; several processes are started by torchrun (DDP)."""
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    options = [] if place.images is None else ["--images", str(place.images)]
    for field in dataclasses.fields(Execution):
        options += [f"--{field.name.replace('_', '-')}", str(getattr(execution, field.name))]
    return [
        *launcher,
        "benchmark.cli",
        "resume",
        run.key,
        "--runs",
        str(run.path.parent),
        "--data",
        str(place.root),
        *options,
    ]


def outcome_of(run: RunDir, code: int) -> Outcome:
    """Return what became of a run whose process ended with exit code `code` (negative: killed by that signal)."""
    status = run.read_json("status.json")
    if status.get("state") == "done":
        return Outcome(run.key, "done")
    if code == STOPPED:
        return Outcome(run.key, "stopped")
    if status.get("state") != "failed":
        how = f"was killed by signal {-code} (out of memory?)" if code < 0 else f"ended with exit code {code}"
        fail(run, f"its process {how}; see {run.path / 'log.txt'}")
    return Outcome(run.key, "failed", run.read_json("status.json").get("reason", ""))


class Processes:
    """Worker processes, one per slot. While it is entered, Ctrl-C or SIGTERM asks all of them once to save their state.

    Args:
        slots: how many may run at a time. execution: threads and device of each.
        gpus: whether a slot has a GPU of its own, where there are several.

    Attributes:
        working: slot -> process. stopping: whether a stop was asked for.
    """

    def __init__(self, slots: int, execution: Execution, gpus: bool = True) -> None:
        self.slots, self.threads = slots, execution.threads
        self.gpus = visible_gpus() if gpus and execution.device != "cpu" else 0
        self.working: dict[int, subprocess.Popen] = {}
        self.asked: float | None = None

    def __enter__(self) -> "Processes":
        self.previous = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self._ask()  # whoever is left, where an error ended the block

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self.asked is not None

    def _stop(self, *_: object) -> None:
        if self.asked is None:
            self.asked = time.monotonic()
            self._ask()

    def _ask(self) -> None:
        for process in self.working.values():
            process.send_signal(signal.SIGINT)

    def free(self) -> list[int]:
        """Return the slots without a process; none once a stop was asked for."""
        return [] if self.stopping else [slot for slot in range(self.slots) if slot not in self.working]

    def begin(self, slot: int, command: list[str], log: Path) -> None:
        """Start a process whose output is added to the file `log`."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "TOKENIZERS_PARALLELISM": "false"}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(slot % self.gpus)
        with log.open("a") as file:
            # Its own session: Ctrl-C reaches this process alone, which asks every worker once.
            self.working[slot] = subprocess.Popen(
                command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        if self.stopping:  # asked for while the process was being made
            self.working[slot].send_signal(signal.SIGINT)

    def ended(self) -> dict[int, int]:
        """Return slot -> exit code of the processes that ended since; kill those that were asked to stop long ago."""
        if self.asked is not None and time.monotonic() - self.asked > GRACE_SECONDS:
            for process in self.working.values():
                process.kill()
        codes = {slot: process.poll() for slot, process in self.working.items()}
        return {slot: self.working.pop(slot).returncode for slot, code in codes.items() if code is not None}


def visible_gpus() -> int:
    """Return how many GPUs this process may use, without starting CUDA in it."""
    import torch

    return torch.cuda.device_count()


def run_all(
    runs: list[RunDir], place: Place, execution: Execution, jobs: int, processes: int, console: Console
) -> list[Outcome]:
    """Work on all runs, `jobs` at a time, and return what became of each; one failure never stops the others.

    Ctrl-C (or SIGTERM) asks the running ones to save their state and returns; the rest stay planned.
    """
    waiting, outcomes = list(runs), []
    working: dict[int, RunDir] = {}
    with Processes(jobs, execution, gpus=processes == 1) as workers, progress_lines(console) as progress:
        bars = {run.key: progress.add_task(run.key, total=1, start=False, note="waiting") for run in runs}
        while working or (waiting and not workers.stopping):
            for slot in workers.free()[: len(waiting)]:
                run = working[slot] = waiting.pop(0)
                workers.begin(slot, run_command(run, place, execution, processes), run.path / "log.txt")
                progress.start_task(bars[run.key])
                progress.update(bars[run.key], note="starting")
            time.sleep(POLL_SECONDS)
            for run in working.values():
                show_progress(progress, bars[run.key], run)
            for slot, code in workers.ended().items():
                outcome = outcome_of(working.pop(slot), code)
                outcomes.append(outcome)
                progress.update(bars[outcome.key], note=outcome.state)
                progress.stop_task(bars[outcome.key])
                if not console.is_terminal:
                    console.print(f"{outcome.state:8} {outcome.key}")
    return outcomes
