"""The launcher of a search: one process per trial, a few at a time, until completed and pruned trials make up the budget."""

import contextlib
import dataclasses
import fcntl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.progress import Progress, TaskID

from benchmark.base.errors import UserError
from benchmark.launch import local
from benchmark.launch.local import Processes
from benchmark.launch.progress import progress_lines, show_progress
from benchmark.runs import groups
from benchmark.runs.execution import Execution
from benchmark.runs.rundir import RunDir
from studies.study import Started, folder, save
from studies.trials import finished, open_study, readable_errors, reap, remaining, retry_failed

POLL_SECONDS = 1.0
SPARE_FAILURES = 2  # the search stops when more trials than this failed beyond those that finished


@dataclasses.dataclass
class Ended:
    """How a launch ended: `complete`, `stopped` (asked for) or `failing` with a reason."""

    state: str
    reason: str = ""


@contextlib.contextmanager
def _alone(runs: Path, name: str) -> Iterator[None]:
    """Hold the study: one launcher per folder of runs."""
    place = folder(runs, name)
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"study {name} is under way in {runs} already; wait for it, or stop it first.") from None
        yield


def _command(started: Started, url: str, runs: Path, execution: Execution) -> list[str]:
    options = []
    for field in dataclasses.fields(Execution):
        options += [f"--{field.name.replace('_', '-')}", str(getattr(execution, field.name))]
    place = ["--runs", str(runs), "--storage", url, "--budget", str(started.study.trials)]
    return [sys.executable, "-m", "benchmark.cli", "study", "trial", started.name, *place, *options]


def note(runs: Path, started: Started, trials: list[FrozenTrial]) -> None:
    """Write which runs are the study's, and which trials they are, for MLflow."""
    of_run: dict[str, list[int]] = {}
    for trial in trials:
        if key := trial.user_attrs.get("key"):
            of_run.setdefault(key, []).append(trial.number)
    known = {key: numbers for key, numbers in of_run.items() if (runs / key / "spec.yaml").exists()}
    groups.write_group(runs, started.name, "study", known, known)


class Board:
    """The progress lines: one for the budget, one per running trial."""

    def __init__(self, progress: Progress, runs: Path, budget: int, told: set[int]) -> None:
        self.progress, self.runs, self.lines = progress, runs, {}
        self.whole = progress.add_task("trials", total=budget, note="")
        self.told = told  # numbers of the trials whose end was printed

    def show(self, trials: list[FrozenTrial], console: Console) -> None:
        """Bring all lines up to date; where nobody looks at a terminal, print each trial once it has ended."""
        states = [trial.state for trial in trials]
        note = ", ".join(
            f"{states.count(state)} {state.name.lower()}"
            for state in (TrialState.PRUNED, TrialState.FAIL)
            if state in states
        )
        self.progress.update(self.whole, completed=finished(trials), note=note)
        for trial in trials:
            if trial.state == TrialState.RUNNING and "key" in trial.user_attrs:
                run = RunDir(self.runs / trial.user_attrs["key"])
                if trial.number not in self.lines:
                    self.lines[trial.number] = self._line(trial, run)
                show_progress(self.progress, self.lines[trial.number], run)
            elif trial.number in self.lines:
                self.progress.remove_task(self.lines.pop(trial.number))
            if trial.state.is_finished() and trial.number not in self.told:
                self.told.add(trial.number)
                if not console.is_terminal:
                    console.print(f"trial {trial.number:3} {trial.state.name.lower():8} {_value(trial)}")

    def _line(self, trial: FrozenTrial, run: RunDir) -> TaskID:
        return self.progress.add_task(f"  {trial.number} {run.key}", total=1, note="starting")


def _value(trial: FrozenTrial) -> str:
    if trial.values:
        return "  ".join(f"{100 * value:.2f}" for value in trial.values)
    return trial.user_attrs.get("reason", "")


def run(
    started: Started, url: str, runs: Path, workers: int, execution: Execution, console: Console
) -> tuple[optuna.Study, Ended]:
    """Run trials until completed and pruned ones make up the budget; return the study and how it ended.

    Dead workers are noticed by their missing heartbeat; their trials are queued again and taken by new workers. Ctrl-C (or
    SIGTERM) asks the running ones to save their state and returns; they stay queued.

    Raises:
        UserError: the storage cannot be used, another launcher is at this study, or more trials have finished than are asked for.
    """
    log = folder(runs, started.name) / "log.txt"
    groups.check_name(runs, started.name, "study")
    with _alone(runs, started.name), readable_errors(url):
        save(runs, started)
        study, budget = open_study(started, url), started.study.trials
        retry_failed(study)
        earlier = study.get_trials(deepcopy=False)
        done_before, failures = finished(earlier), []
        if done_before > budget:
            raise UserError(
                f"study {started.name} has {done_before} finished trials already: ask for --trials {done_before} or more."
            )
        with Processes(workers, execution) as processes, progress_lines(console) as progress:
            board = Board(progress, runs, budget, {trial.number for trial in earlier if trial.state.is_finished()})
            ended = None
            while ended is None or processes.working:
                codes = processes.ended().values()
                failures += [_how(code) for code in codes if code not in (0, local.STOPPED)]
                reap(study)
                trials = study.get_trials(deepcopy=False)
                note(runs, started, trials)
                board.show(trials, console)
                if ended is None and finished(trials) >= budget:
                    ended = Ended("complete")
                elif ended is None and processes.stopping:
                    ended = Ended("stopped")
                elif ended is None and len(failures) > SPARE_FAILURES + finished(trials) - done_before:
                    ended = Ended("failing", _why(trials[len(earlier) :], failures, log))
                if ended is None:
                    # A worker that has just begun is no trial yet.
                    begun = {trial.user_attrs.get("pid") for trial in trials}
                    starting = sum(process.pid not in begun for process in processes.working.values())
                    for slot in processes.free()[: max(0, remaining(trials, budget) - starting)]:
                        processes.begin(slot, _command(started, url, runs, execution), log)
                time.sleep(POLL_SECONDS)
    return study, ended


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _why(trials: list[FrozenTrial], failures: list[str], log: Path) -> str:
    """Return why the last worker failed, in its trial's words where it found some."""
    reasons = [trial.user_attrs["reason"] for trial in trials if "reason" in trial.user_attrs]
    return f"{len(failures)} workers failed, the last one: {reasons[-1] if reasons else failures[-1]} (see {log})"
