"""How runs are started: one process each, a few at a time, watched through their run directories."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmark.errors import UserError
from benchmark.matrix import Place
from benchmark.rundir import RunDir
from benchmark.training import Execution, fail

POLL_SECONDS = 0.5
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


class Worker:
    """One run in its own process; its output goes to `log.txt` in the run directory."""

    def __init__(self, run: RunDir, command: list[str], environment: dict[str, str]) -> None:
        self.run = run
        with (run.path / "log.txt").open("a") as log:
            # Its own session: Ctrl-C reaches the parent alone, which asks every worker once.
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )

    def outcome(self) -> Outcome | None:
        """Return what became of the run, or None while it goes on."""
        code = self.process.poll()
        if code is None:
            return None
        status = self.run.read_json("status.json")
        if status.get("state") == "done":
            return Outcome(self.run.key, "done")
        if code == 130:
            return Outcome(self.run.key, "stopped")
        if status.get("state") != "failed":
            how = f"was killed by signal {-code} (out of memory?)" if code < 0 else f"ended with exit code {code}"
            fail(self.run, f"its process {how}; see {self.run.path / 'log.txt'}")
        return Outcome(self.run.key, "failed", self.run.read_json("status.json").get("reason", ""))


def worker_environment(execution: Execution, gpu: int | None) -> dict[str, str]:
    """Return the environment of a worker: its thread count and, with several GPUs, the one that is its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(execution.threads), "TOKENIZERS_PARALLELISM": "false"}
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
    return environment


def visible_gpus() -> int:
    """Return how many GPUs this process may use, without starting CUDA in it."""
    import torch

    return torch.cuda.device_count()


def show(progress: Progress, bar: TaskID, run: RunDir) -> None:
    """Update a run's line from its status file."""
    status = run.read_json("status.json")
    if status.get("steps"):
        best = status.get("best")
        note = f"  val oIoU {100 * best:.1f}" if best is not None and best >= 0 else ""
        progress.update(
            bar, completed=status["step"], total=status["steps"], note=status.get("message", status["state"]) + note
        )


def progress_lines(console: Console) -> Progress:
    """Return a progress display of one line per run, with a `note` at its end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:>6.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console, refresh_per_second=2)


def run_all(
    runs: list[RunDir], place: Place, execution: Execution, jobs: int, processes: int, console: Console
) -> list[Outcome]:
    """Work on all runs, `jobs` at a time, and return what became of each; one failure never stops the others.

    Ctrl-C (or SIGTERM) asks the running ones to save their state and returns; the rest stay planned.
    """
    waiting, outcomes = list(runs), []
    working: dict[int, Worker] = {}
    gpus = visible_gpus() if execution.device != "cpu" and processes == 1 else 0
    stopping: float | None = None

    def stop(*_: object) -> None:
        nonlocal stopping
        if stopping is None:
            stopping = time.monotonic()
            waiting.clear()
            for worker in working.values():
                worker.process.send_signal(signal.SIGINT)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with progress_lines(console) as progress:
            bars = {run.key: progress.add_task(run.key, total=1, start=False, note="waiting") for run in runs}
            while waiting or working:
                for slot in range(jobs):
                    if slot not in working and waiting:
                        run = waiting.pop(0)
                        environment = worker_environment(execution, slot % gpus if gpus else None)
                        working[slot] = Worker(run, run_command(run, place, execution, processes), environment)
                        if stopping:  # asked for while the process was being made
                            working[slot].process.send_signal(signal.SIGINT)
                        progress.start_task(bars[run.key])
                        progress.update(bars[run.key], note="starting")
                time.sleep(POLL_SECONDS)
                if stopping and time.monotonic() - stopping > GRACE_SECONDS:
                    for worker in working.values():
                        worker.process.kill()
                for slot, worker in list(working.items()):
                    show(progress, bars[worker.run.key], worker.run)
                    outcome = worker.outcome()
                    if outcome:
                        outcomes.append(outcome)
                        del working[slot]
                        progress.update(bars[worker.run.key], note=outcome.state)
                        progress.stop_task(bars[worker.run.key])
                        if not console.is_terminal:
                            console.print(f"{outcome.state:8} {outcome.key}")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return outcomes


def start_sync(runs: Path, uri: str | None) -> subprocess.Popen:
    """Start the child that projects the run directories into MLflow while they grow.

    Raises:
        UserError: the folder of the runs, which need not be there yet, cannot be written.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        log = (runs / "sync.log").open("a")
    except OSError as error:
        raise UserError(f"cannot write {runs} ({error.strerror}); make room or choose another --runs folder.") from None
    command = [sys.executable, "-m", "benchmark.cli", "sync", "--watch", "--runs", str(runs)]
    command += ["--uri", uri] if uri else []
    # The child unblocks SIGTERM once it can answer it: asked to stop while it still imports MLflow, it makes its last pass
    # all the same.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        with log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def stop_sync(child: subprocess.Popen, seconds: float = 90) -> bool:
    """Ask the sync child for its last pass; return whether it got through in time."""
    child.terminate()
    try:
        return child.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        child.kill()
        return False
