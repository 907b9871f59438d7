"""The launch of a search.

It starts one job per trial, a few at a time, until completed and pruned trials make up the budget.
"""

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

from benchmark.base.errors import UserError
from benchmark.base.locks import locked
from benchmark.launch.base import Job, JobStatus, Launcher
from benchmark.launch.jobs import trial_job
from benchmark.launch.progress import Display, Share, share_of
from benchmark.launch.watch import follow
from benchmark.runs import groups
from benchmark.runs.execution import Execution, Places
from benchmark.runs.groups import Cell, Group
from benchmark.runs.rundir import RunDir
from studies.study import Started, folder, save
from studies.trials import (
    Survey,
    TrialSummary,
    open_study,
    readable_errors,
    reap,
    retry_failed,
    survey,
)

POLL_SECONDS = 1.0
SPARE_FAILURES = 2  # a search stops once more trials than this failed beyond those that finished


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a launch ended.

    Attributes:
        state: `complete` if the budget is used up, `stopped` if somebody stopped it, else
            `failing`.
        reason: why it is failing.
        complete: number of trials that have a value now.
    """

    state: Literal["complete", "stopped", "failing"]
    reason: str = ""
    complete: int = 0


def note(
    runs: Path, started: Started, trials: Sequence[TrialSummary], cells: dict[int, Cell]
) -> None:
    """Write which runs are the study's, and which trials they are, into its plan.

    Args:
        runs: folder of the run directories.
        started: the study.
        trials: all of its trials.
        cells: number of a trial -> its cell, of trials that were noted before. New ones are added.
    """
    for trial in trials:
        run = RunDir(runs / trial.key)
        if trial.key and trial.number not in cells and (run.path / "spec.yaml").exists():
            cells[trial.number] = Cell.of(run.spec(), trial=trial.number)
    description = started.study.description
    plan = Group(started.name, "study", description, cells=list(cells.values()))
    groups.write_plan(runs, plan)


def run(
    started: Started,
    url: str,
    places: Places,
    launcher: Launcher,
    execution: Execution,
    console: Console,
) -> Ended:
    """Run trials until completed and pruned ones make up the budget, and return how that ended.

    Where another command works on the study, this one waits for it first. Trials that failed are
    tried again. Ctrl-C or SIGTERM makes those that run save their state.

    Args:
        started: the search.
        url: of Optuna's storage.
        places: where things lie.
        launcher: starts the trials, and nothing else meanwhile.
        execution: how runs are executed.
        console: where progress is shown.

    Raises:
        UserError: the storage cannot be used, or more trials have finished than the budget allows.
    """
    groups.check_name(places.runs, started.name, "study")
    where = f"{started.name} is under way in {places.runs}"
    busy = f"study {where} already: this command waits for it and then goes on."
    lock = locked(folder(places.runs, started.name) / ".lock", busy, console.print)
    with lock, readable_errors(url):
        save(places.runs, started)
        study = open_study(started, url)
        budget = started.study.trials
        retry_failed(study)
        before = survey(study, budget)
        if before.finished > budget:
            raise UserError(
                f"study {started.name} has {before.finished} finished trials already: ask for"
                f" --trials {before.finished} or more."
            )
        launch = _Launch(started, url, places, launcher, execution, before)
        with Display(console, "trials", budget) as display:

            def on_tick(statuses: Mapping[str, JobStatus], stopping: bool) -> list[str] | None:
                reap(study)
                now = survey(study, budget)
                note(places.runs, started, now.trials, launch.cells)
                launch.show(now, display)
                return launch.next_jobs(now, statuses, stopping)

            follow(launcher, [], on_tick, POLL_SECONDS)
        return dataclasses.replace(launch.ended, complete=survey(study, budget).complete)


class _Launch:
    """A launch under way. It knows which jobs it has submitted, and in the end how it ended.

    Args:
        started: the search.
        url: of Optuna's storage.
        places: where things lie.
        launcher: starts the trials.
        execution: how runs are executed.
        before: where the search stood when the launch began.
    """

    def __init__(
        self,
        started: Started,
        url: str,
        places: Places,
        launcher: Launcher,
        execution: Execution,
        before: Survey,
    ) -> None:
        self.started = started
        self.url = url
        self.places = places
        self.launcher = launcher
        self.execution = execution
        self.before = before
        self.log = folder(places.runs, started.name) / "log.txt"
        self.names: dict[str, str] = {}  # id -> name of the jobs
        self.cells: dict[int, Cell] = {}  # number of a trial -> its cell in the study's plan
        self.reported = {trial.number for trial in before.trials if trial.over}
        self.ended: Ended | None = None

    def next_jobs(
        self, now: Survey, statuses: Mapping[str, JobStatus], stopping: bool
    ) -> list[str] | None:
        """Submit jobs for the trials that remain.

        Returns:
            The ids of the jobs, or None once the launch has ended.
        """
        if self.ended is None:
            self.ended = self._end(now, statuses, stopping)
        if self.ended is not None:
            return None
        taken = {trial.job for trial in now.trials}
        open_jobs = [self.names[id] for id, status in statuses.items() if not status.over]
        # A worker that has just begun has taken no trial yet.
        starting = sum(name not in taken for name in open_jobs)
        count = min(self.launcher.slots - len(open_jobs), now.remaining - starting)
        names = [f"{self.started.name}-{uuid.uuid4().hex[:12]}" for _ in range(count)]
        ids = self.launcher.submit([self._job(name) for name in names])
        self.names |= dict(zip(ids, names, strict=True))
        return ids

    def _job(self, name: str) -> Job:
        return trial_job(
            study=self.started.name,
            name=name,
            storage=self.url,
            budget=self.started.study.trials,
            log=self.log,
            places=self.places,
            execution=self.execution,
            launcher=self.launcher,
        )

    def _end(self, now: Survey, statuses: Mapping[str, JobStatus], stopping: bool) -> Ended | None:
        """Return how the launch ends, if it does."""
        if now.finished >= self.started.study.trials:
            return Ended("complete")
        if stopping:
            return Ended("stopped")
        failures = [
            status
            for status in statuses.values()
            if status.over and not status.succeeded and not status.stopped
        ]
        if len(failures) > SPARE_FAILURES + now.finished - self.before.finished:
            # A trial of this launch may have said why it failed. A process says only how it ended.
            earlier = {trial.number for trial in self.before.trials if trial.over}
            reasons = [
                trial.reason for trial in now.trials if trial.reason and trial.number not in earlier
            ]
            last = reasons[-1] if reasons else f"its process {failures[-1].words}"
            return Ended(
                "failing", f"{len(failures)} workers failed, the last one: {last} (see {self.log})"
            )
        return None

    def show(self, now: Survey, display: Display) -> None:
        """Show the running trials, and tell of each once it has ended."""
        states = [trial.state for trial in now.trials]
        counts = {state: states.count(state) for state in ("pruned", "fail")}
        counted = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        running: dict[str, Share] = {
            f"{trial.number} {trial.key}": share_of(self.places.runs / trial.key)
            for trial in now.trials
            if trial.state == "running" and trial.key
        }
        display.show(now.finished, running, counted)
        for trial in now.trials:
            if trial.over and trial.number not in self.reported:
                self.reported.add(trial.number)
                values = "  ".join(f"{100 * value:.2f}" for value in trial.values)
                display.tell(f"trial {trial.number:3} {trial.state:8} {values or trial.reason}")
