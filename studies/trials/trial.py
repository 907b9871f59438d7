"""What a worker of a search does: it takes the next trial and makes the run that the trial is."""

import contextlib
import os
import time
from collections.abc import Callable
from statistics import fmean
from typing import Any

import optuna
from optuna.exceptions import TrialPruned
from optuna.trial import Trial, TrialState
from rich.console import Console

from benchmark.base.errors import Busy, Interrupted, Pruned, UserError
from benchmark.base.locks import locked
from benchmark.base.rng import torch_seed
from benchmark.evaluation import metrics
from benchmark.robustness.results import read_results
from benchmark.runs.execution import Execution, Places
from benchmark.runs.resolve import Opened
from benchmark.runs.rundir import RunDir
from studies.search_space import CORRUPTED, Search
from studies.study import Started, folder
from studies.trials.queue import remaining, requeue
from studies.trials.storage import open_study, readable_errors

BUSY_SECONDS = 2


class Surplus(Exception):
    """Other trials fill the budget."""


def sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of a trial.

    A worker lives for one trial. With one seed for all, every one would draw the same sample.
    """
    seed = torch_seed(search.seed, "sampler", number) % 2**32
    if search.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def suggest(search: Search, trial: Trial) -> dict[str, Any]:
    """Return the trial's parameters."""
    values = {}
    for name, room in search.space.items():
        if room.choices is not None:
            values[name] = trial.suggest_categorical(name, room.choices)
        elif isinstance(room.low, int) and isinstance(room.high, int):
            values[name] = trial.suggest_int(
                name, room.low, room.high, step=int(room.step or 1), log=room.log
            )
        else:
            value = trial.suggest_float(name, room.low, room.high, step=room.step, log=room.log)
            # 0.1 + 13 * 0.05 is 0.75 to the last bit only when rounded, and then the same run.
            values[name] = round(value, 10) if room.step else value
    return values


def _patiently(action: Callable[[], Any]) -> Any:
    """Return what `action` does once no other trial or matrix is at the same run."""
    while True:
        try:
            return action()
        except Busy:
            time.sleep(BUSY_SECONDS)


def objective(
    started: Started, trial: Trial, opened: Opened, execution: Execution, console: Console
) -> Any:
    """Return the values of the search's objectives on the selection split.

    The trial's run is trained, or taken as it is if it has run before.

    Raises:
        TrialPruned: the pruner gave it up; the run directory says so and keeps its state.
        Interrupted, UserError: as `worker.work`.
    """
    # Here, since what only reads trials does without torch.
    from benchmark.training import worker

    search = started.study
    trial.study.sampler = sampler(search, trial.number)
    spec = started.trial_spec(suggest(search, trial))
    trial.set_user_attr("key", spec.key)
    run = RunDir(opened.places.runs / spec.key)
    run.create(spec)
    # Optuna prunes single objectives alone, and the run knows one value as it goes on.
    reported = search.objectives == (spec.selection.metric,)

    def train() -> None:
        done = run.status().state == "done"
        # What all else is compared with is never pruned, nor is what has cost its time already.
        prunable = not done and "reference" not in trial.user_attrs

        def report(epoch: int, value: float) -> None:
            if reported:
                trial.report(value, epoch + 1)
                if prunable and epoch + 1 < spec.recipe.epochs and trial.should_prune():
                    raise Pruned

        if not done:
            worker.work(run, opened, execution, console, report)
            return
        for epoch, value in run.epoch_values(spec.selection.split, spec.selection.metric).items():
            report(epoch, value)

    try:
        _patiently(train)
    except Pruned:
        raise TrialPruned from None

    def value(name: str) -> float:
        metric = name.removeprefix(CORRUPTED)
        if metric != name:
            return _patiently(lambda: corrupted(started, run, metric, opened, execution, console))
        result = run.read_json("result.json")
        selected = result["selected"]
        return selected[metric] if metric in selected else result[selected["split"]][metric]

    return tuple(value(name) for name in search.objectives)


def corrupted(
    started: Started,
    run: RunDir,
    metric: str,
    opened: Opened,
    execution: Execution,
    console: Console,
) -> float:
    """Return the mean of a run's metric under the search's corruptions; the records are kept."""
    from benchmark.robustness.run import evaluate_conditions

    split, conditions = run.spec().selection.split, started.study.conditions()
    device = execution.numerics.device
    evaluate_conditions([run], [split], conditions, lambda _: opened, console, device=device)
    tables = [read_results(run, split, condition) for condition in conditions]
    return fmean(metrics.compute(table)[metric] for table in tables)


def run_trial(
    started: Started,
    url: str,
    budget: int,
    places: Places,
    execution: Execution,
    console: Console,
    job: str = "",
) -> None:
    """Run the next trial of a study in this process, if its budget leaves one.

    Args:
        job: name of the job that this is, from which the launcher knows that it has begun a trial.

    Raises:
        Interrupted: a stop was asked for; the trial is queued again.
        UserError: its run failed; the trial says why.
    """
    study = open_study(started, url)
    current: list[int] = []
    # SQLite hands two workers that ask at once the same queued trial, and only one after the
    # other can they see whether the budget is full: each waits for its turn.
    turn = contextlib.ExitStack()

    def one(trial: Trial) -> Any:
        current.append(trial.number)
        trial.set_user_attr("pid", os.getpid())
        trial.set_user_attr("job", job)
        others = [
            other for other in study.get_trials(deepcopy=False) if other.number != trial.number
        ]
        surplus = remaining(others, budget) <= 0
        if surplus:
            trial.set_user_attr("surplus", True)
        turn.close()
        if surplus:
            raise Surplus
        try:
            return objective(started, trial, Opened(places), execution, console)
        except UserError as error:
            trial.set_user_attr("reason", str(error))
            raise

    with readable_errors(url), turn:
        turn.enter_context(locked(folder(places.runs, started.name) / ".turn"))
        try:
            # Inside `optimize`, and nowhere else, Optuna starts the heartbeat.
            study.optimize(one, n_trials=1, catch=Surplus)
        except (Interrupted, KeyboardInterrupt):
            trial = study.trials[current[0]] if current else None
            if trial and trial.state == TrialState.FAIL:
                requeue(study, trial)
            raise Interrupted(
                f"a trial of {started.name} is saved; `risbench study resume` goes on from there"
            ) from None
