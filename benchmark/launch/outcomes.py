"""Working through jobs, and what became of them and of the runs that they worked on."""

import contextlib
import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

from benchmark.base.errors import Busy
from benchmark.launch.base import Job, JobStatus, Launcher, State
from benchmark.launch.progress import Display, share_of
from benchmark.launch.watch import follow
from benchmark.runs.rundir import RunDir

CLAIMS = 20
CLAIM_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        name: the name of the job, which is the run key for a job that works on a run.
        state: how the job ended. It is `not started` where a job that it needs failed.
        reason: why the job is neither done nor stopped.
    """

    name: str
    state: Literal["done", "failed", "stopped", "not started"]
    reason: str = ""


def outcome_of(run: RunDir, status: JobStatus) -> Outcome:
    """Return what became of a run whose job is over.

    A run whose process died without a word is marked as failed, and as interrupted where it was
    asked to stop.

    Args:
        run: the directory of the run.
        status: the final status of its job.
    """
    run_status = run.recorded_status()
    if run_status.state == "done":
        return Outcome(run.key, "done")
    # torchrun replaces the exit code of a stopped run with its own, but the status file tells that
    # the state was saved.
    if status.stopped or (status.asked and run_status.state == "planned"):
        return Outcome(run.key, "stopped")
    if status.state == State.NOT_STARTED:
        return Outcome(run.key, "not started", status.reason)
    if run_status.state == "failed":
        return Outcome(run.key, "failed", run_status.reason)
    # A run that was asked to stop and wrote no reason was killed when its time to save was over, by
    # the launcher or by torchrun. Its last resume point is whole, so it goes on from there.
    interrupted = status.asked and run_status.state == "running"
    reason = "" if interrupted else _last_words(status, run.path / "log.txt")
    # The loaders of a process that was killed may hold the run for another moment. A process that
    # holds it longer works on it, and writes its state.
    for _ in range(CLAIMS):
        with contextlib.suppress(Busy), run.claim():
            if interrupted:
                run.write_status("planned", **run_status.progress, message="interrupted")
                return Outcome(run.key, "stopped")
            run.fail(reason)
            return Outcome(run.key, "failed", reason)
        time.sleep(CLAIM_SECONDS)
    reason = "another process is working on it: wait for that one"
    return Outcome(run.key, "failed", reason)


def _outcome(job: Job, status: JobStatus) -> Outcome:
    """Return what became of a job. A job whose folder is a run directory works on that run."""
    if job.folder and (job.folder / "spec.yaml").exists():
        return outcome_of(RunDir(job.folder), status)
    if status.succeeded:
        return Outcome(job.name, "done")
    if status.stopped:
        return Outcome(job.name, "stopped")
    if status.state == State.NOT_STARTED:
        return Outcome(job.name, "not started", status.reason)
    return Outcome(job.name, "failed", _last_words(status, job.log))


def _last_words(status: JobStatus, log: Path) -> str:
    """Return why a job failed, which is the last error in its log if it ended with one."""
    if status.code in (1, 2) and log.exists():
        errors = re.findall(r"^error: (.+)$", log.read_text(errors="replace"), re.MULTILINE)
        if errors:
            return f"{errors[-1]} (see {log})"
    return f"its process {status.words}; see {log}"


def work_through(
    launcher: Launcher, jobs: Sequence[Job], console: Console, what: str = "runs"
) -> list[Outcome]:
    """Submit jobs, show how far they are until all have ended, and return their outcomes in order.

    A failure stops no other job but those that need the one that failed. Ctrl-C or SIGTERM asks
    the running jobs to save their state. The function returns once they have, and jobs that were
    not started count as stopped.

    Args:
        launcher: the launcher that starts the jobs.
        jobs: the jobs, in the order in which they begin.
        console: the console to print on.
        what: what the jobs are called, in the plural.

    Raises:
        UserError: a job needs one that is not known, jobs need each other in a circle, or one asks
            for more than there will ever be.
    """
    ids = launcher.submit(jobs)
    outcomes: dict[str, Outcome] = {}
    with Display(console, what, len(jobs)) as display:

        def on_tick(statuses: Mapping[str, JobStatus], _: bool) -> None:
            running = {}
            for id, job in zip(ids, jobs, strict=True):
                status = statuses[id]
                if status.state == State.RUNNING:
                    running[job.name] = share_of(job.folder, job.makes)
                elif status.over and id not in outcomes:
                    outcomes[id] = _outcome(job, status)
                    if not (status.state == State.NOT_STARTED and status.asked):
                        display.tell(f"{outcomes[id].state:8} {job.name}")
            states = [outcome.state for outcome in outcomes.values()]
            failed = sum(state in ("failed", "not started") for state in states)
            display.show(states.count("done"), running, f"{failed} failed" if failed else "")

        follow(launcher, ids, on_tick)
    return [outcomes[id] for id in ids]
