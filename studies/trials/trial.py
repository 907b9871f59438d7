"""The work of a search's worker. It takes the next trial and makes the run that the trial is."""

import contextlib
import os
from statistics import fmean
from typing import Any

import optuna
from optuna.exceptions import TrialPruned
from optuna.trial import Trial, TrialState
from rich.console import Console

from benchmark.base.errors import Interrupted, Pruned, UserError
from benchmark.base.locks import locked
from benchmark.base.rng import torch_seed
from benchmark.evaluation import metrics
from benchmark.robustness.results import read_results
from benchmark.runs.execution import Execution, Places
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from studies.search_space import CORRUPTED, Search
from studies.study import Started, folder
from studies.trials.queue import remaining, requeue
from studies.trials.storage import open_study, readable_errors


class Surplus(Exception):
    """Other trials fill the budget."""


def sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of the trial `number`.

    A worker lives for one trial. If all had one seed, every worker would draw the same sample.
    """
    seed = torch_seed(search.seed, "sampler", number) % 2**32
    if search.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def suggest(search: Search, trial: Trial) -> dict[str, Any]:
    """Return the trial's parameters."""
    values = {}
    for name, space in search.space.items():
        low, high = space.low, space.high
        if space.choices is not None:
            values[name] = trial.suggest_categorical(name, space.choices)
        elif isinstance(low, int) and isinstance(high, int):
            step = int(space.step or 1)
            values[name] = trial.suggest_int(name, low, high, step=step, log=space.log)
        else:
            value = trial.suggest_float(name, low, high, step=space.step, log=space.log)
            # 0.1 + 13 * 0.05 is 0.75 to the last bit only when it is rounded, and only then do the
            # two name the same run.
            values[name] = round(value, 10) if space.step else value
    return values


def objective(
    started: Started, trial: Trial, opened: Opened, execution: Execution, console: Console
) -> Any:
    """Return the values of the search's objectives on the selection split.

    The trial's run is trained, or taken as it is if it has run before.

    Args:
        started: the search.
        trial: the trial that this worker took.
        opened: reads the run's data.
        execution: how the run is executed.
        console: where progress is shown.

    Raises:
        TrialPruned: the pruner gave the trial up. The run directory says so and keeps its state.
        Interrupted: somebody stopped the program. The state is saved.
        UserError: the run failed.
    """
    # Imported here because it needs torch, and a command that only reads trials does not.
    from benchmark.training import worker

    search = started.study
    trial.study.sampler = sampler(search, trial.number)
    spec = started.trial_spec(suggest(search, trial))
    trial.set_user_attr("key", spec.key)
    run = RunDir(opened.places.runs / spec.key)
    run.create(spec)
    # Optuna prunes searches of a single objective alone, and while it goes on the run knows only
    # the value that selects its epoch.
    reported = search.objectives == (spec.selection.metric,)

    def report(epoch: int, value: float) -> None:
        if not reported:
            return
        trial.report(value, epoch + 1)
        # A reference, with which all else is compared, is never pruned. Nor is a run that is done
        # and has cost its time already.
        is_done = run.recorded_status().state == "done"
        prunable = not is_done and "reference" not in trial.user_attrs
        if prunable and epoch + 1 < spec.recipe.epochs and trial.should_prune():
            raise Pruned

    try:
        worker.work(run, opened, execution, console, report)
    except Pruned:
        raise TrialPruned from None

    def value(name: str) -> float:
        metric = name.removeprefix(CORRUPTED)
        if metric != name:
            return corrupted(started, run, metric, opened, execution, console)
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
    """Return the mean of a run's metric under the search's corruptions.

    The records are kept in the run directory.

    Args:
        started: the search.
        run: a finished run.
        metric: name of the metric.
        opened: reads the run's data.
        execution: how the run is executed.
        console: where progress is shown.

    Raises:
        UserError: an image is missing or too small, or a disk is full.
    """
    from benchmark.robustness.run import evaluate_conditions

    split = run.spec().selection.split
    conditions = started.study.conditions()
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
        started: the search.
        url: of Optuna's storage.
        budget: number of trials that are to be completed or pruned.
        places: where things lie.
        execution: how runs are executed.
        console: where progress is shown.
        job: name of this job. The launcher knows by it that the job has begun a trial.

    Raises:
        Interrupted: somebody stopped the program. The trial is queued again.
        UserError: the run failed. The trial says why.
    """
    study = open_study(started, url)
    current: list[int] = []
    # If two workers ask at once, SQLite hands them the same queued trial. And only one after the
    # other can they see whether the budget is full. So each waits for its turn.
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
            # Optuna starts the heartbeat inside `optimize` and nowhere else.
            study.optimize(one, n_trials=1, catch=Surplus)
        except (Interrupted, KeyboardInterrupt):
            trial = study.trials[current[0]] if current else None
            if trial and trial.state == TrialState.FAIL:
                requeue(study, trial)
            raise Interrupted(
                f"a trial of {started.name} is saved: `risbench study resume` goes on from there"
            ) from None
