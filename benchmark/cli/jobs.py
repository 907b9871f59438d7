"""Steps that commands share which start jobs.

They work through the jobs, keep the tracker up to date beside them, and conclude with a report.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from benchmark.base.texts import printable
from benchmark.cli.options import Submission, console, errors

if TYPE_CHECKING:  # Help must not import what runs need.
    from benchmark.launch.outcomes import Outcome
    from benchmark.runs.execution import Execution, Places
    from benchmark.runs.spec import RunSpec


def work_through_runs(
    specs: Sequence[RunSpec],
    places: Places,
    execution: Execution,
    submission: Submission,
    at_a_time: int,
) -> list[Outcome]:
    """Execute the runs that are not done yet, and return their outcomes.

    A run that makes targets comes before the runs that need them.

    Args:
        specs: the specs of all runs, done or not.
        places: where things lie.
        execution: how runs are executed.
        submission: the launcher and the tracker.
        at_a_time: how many runs are executed at a time.

    Raises:
        UserError: a job asks for more than the launcher has, or a run directory is damaged.
    """
    from benchmark.launch.jobs import run_jobs
    from benchmark.launch.outcomes import work_through
    from benchmark.runs.rundir import RunDir

    directories = [RunDir(places.runs / spec.key) for spec in specs]
    for spec, run in zip(specs, directories, strict=True):
        run.create(spec)
    launcher = submission.started(at_a_time)
    jobs = run_jobs(directories, places, execution, launcher)
    remaining = len({job.folder for job in jobs} & {run.path for run in directories})
    console.print(
        f"{len(directories)} runs in {places.runs}: {len(directories) - remaining} done,"
        f" {remaining} to do"
    )
    with syncing(places, submission):
        return work_through(launcher, jobs, console)


@contextlib.contextmanager
def syncing(places: Places, submission: Submission) -> Iterator[None]:
    """Project the run directories into the tracker while a block runs, and once more after it."""
    from benchmark.tracking import watch

    if not submission.sync:
        yield
        return
    child = watch.start(places.runs, places.tracking, submission.tracker)
    try:
        yield
    finally:
        if not watch.stop(child):
            errors.print(
                f"the tracker did not take everything (see {places.runs / 'sync.log'})."
                " Nothing is lost: run `risbench sync` later."
            )


def conclude(outcomes: Sequence[Outcome], report: Callable[[], None]) -> None:
    """Name the jobs that failed, and report on the others.

    Args:
        outcomes: what became of the jobs.
        report: writes the report. It is called unless all jobs failed or a stop was asked for.

    Raises:
        Exit: not everything is done. The code is 130 where a stop was asked for, and else 1.
    """
    failed = [outcome for outcome in outcomes if outcome.state in ("failed", "not started")]
    for outcome in failed:
        said = printable(f" {outcome.name}: {outcome.reason}")
        line = Text.assemble((outcome.state, "red"), said)
        errors.print(line, soft_wrap=True)
    if any(outcome.state == "stopped" for outcome in outcomes):
        console.print("stopped: the same command goes on from here")
        raise typer.Exit(130)
    if not outcomes or len(failed) < len(outcomes):
        report()
    if failed:
        raise typer.Exit(1)
