"""Optuna's part of a search: the storage, what a trial is, and which trials are still owed. Launching them is `launcher`'s.

A trial is a run: its parameters make a spec, the spec's key names the directory, trial and run name each other. So a trial that
was interrupted or killed is retried as a new trial of the same parameters, which goes on in the same directory; and a spec that
has run before is not trained again.
"""

import contextlib
import fcntl
import os
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, TrialPruned
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from benchmark.base.errors import Busy, Interrupted, Pruned, UserError
from benchmark.base.rng import torch_seed
from benchmark.evaluation import metrics
from benchmark.robustness.run import evaluate_conditions, read_results
from benchmark.runs.execution import Execution
from benchmark.runs.rundir import RunDir
from benchmark.training import worker
from studies.search_space import Search
from studies.study import Started, folder

HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 30  # a running trial that was silent for longer is taken for dead
RETRIES = 3  # of a trial whose worker died; then it stays failed until the next launch
BUSY_SECONDS = 2
PAPER, BASELINE = "paper", "baseline"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class Surplus(Exception):
    """Other trials fill the budget."""


def default_storage(runs: Path) -> str:
    """Return the storage that is used where none is given: one SQLite file for all studies in the folder of the runs."""
    return f"sqlite:///{runs.resolve() / 'optuna.db'}"


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep Optuna quiet: heartbeat, retry and metric names have been "experimental" for years, and are tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@contextlib.contextmanager
def readable_errors(url: str) -> Iterator[None]:
    """Turn what a storage can raise into one sentence."""
    try:
        with _without_warnings():
            yield
    except (ArgumentError, SQLAlchemyError, StorageInternalError) as error:
        reason = str(error.__cause__ or error).strip().split("\n")[0][:200]
        try:
            address = make_url(url).render_as_string(hide_password=True)
        except ArgumentError:
            address = url
        raise UserError(
            f"the storage {address} cannot be used ({reason}); no run is lost: put it right or give another --storage,"
            " such as sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE (`pip install risbench[postgres]`)."
        ) from None


def open_storage(url: str) -> RDBStorage:
    """Return the storage, with the heartbeat by which dead workers are found.

    Raises:
        UserError: it cannot be used.
    """
    with readable_errors(url):
        address = make_url(url)
        local = address.get_backend_name() == "sqlite"
        if local and address.database in (None, "", ":memory:"):
            raise UserError(f"the storage {url} is no file, so workers could not share it: give sqlite:///FILE.")
        try:
            return RDBStorage(
                url,
                engine_kwargs={"connect_args": {"timeout": 60}} if local else {"pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=_after_death,
            )
        except ImportError as error:
            raise UserError(
                f"{url.split(':')[0]} needs a driver ({error}): `pip install 'risbench[postgres]'`."
            ) from None


def _sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of a trial. A worker lives for one: with one seed for all, every one would draw the same sample."""
    seed = torch_seed(search.seed, "sampler", number) % 2**32
    if search.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _pruner(started: Started) -> optuna.pruners.BasePruner:
    search, (base,) = started.study, started.bases.values()
    if search.pruner == "none" or len(search.objectives) > 1:  # Optuna prunes single objectives alone
        return optuna.pruners.NopPruner()
    return optuna.pruners.HyperbandPruner(min_resource=base.selection.every, max_resource=base.recipe.epochs)


def open_study(started: Started, url: str) -> optuna.Study:
    """Return the study in its storage; a new one begins with the paper's setting and the baseline.

    Raises:
        UserError: the storage cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = started.study
    with readable_errors(url):
        study = optuna.create_study(
            storage=open_storage(url),
            study_name=started.name,
            directions=["maximize"] * len(search.objectives),
            pruner=_pruner(started),
            load_if_exists=True,
        )
        if "preset" not in study.user_attrs:
            study.set_metric_names([f"val {name}" for name in search.objectives])
            study.enqueue_trial(search.paper, {"reference": PAPER}, skip_if_exists=True)
            study.enqueue_trial({**search.paper, "distill_weight": 0.0}, {"reference": BASELINE}, skip_if_exists=True)
            study.set_user_attr("preset", started.preset)  # last: a start that was cut short is made good by the next
    return study


def existing(started: Started, url: str) -> optuna.Study:
    """Return the study as it lies in its storage.

    Raises:
        UserError: the storage cannot be used or does not hold it.
    """
    with readable_errors(url):
        address = make_url(url)
        # Optuna would make an empty database.
        if address.get_backend_name() != "sqlite" or Path(address.database or "").exists():
            with contextlib.suppress(KeyError):
                return optuna.load_study(study_name=started.name, storage=open_storage(url))
        raise UserError(
            f"study {started.name} is not in {address.render_as_string(hide_password=True)}: give the --storage that it was"
            " started with."
        )


# --- which trials are owed --------------------------------------------------------------------------------------------


def finished(trials: list[FrozenTrial]) -> int:
    """Return how many trials count against the budget: completed and pruned ones."""
    return sum(trial.state in FINISHED for trial in trials)


def remaining(trials: list[FrozenTrial], budget: int) -> int:
    """Return how many trials are to be begun: the budget less what is finished and what is under way."""
    return budget - finished(trials) - sum(trial.state == TrialState.RUNNING for trial in trials)


def requeue(study: optuna.Study, trial: FrozenTrial, deaths: int = 0) -> None:
    """Queue a new trial of the same parameters, which goes on in the same run directory.

    Args:
        deaths: how many workers have died of it.
    """
    about = {name: value for name, value in trial.user_attrs.items() if name == "reference"}
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**about, "deaths": deaths},
            system_attrs={name: trial.system_attrs[name] for name in ("fixed_params",) if name in trial.system_attrs},
        )
    )


def _after_death(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial whose worker died again, unless it has cost too many."""
    deaths = trial.user_attrs.get("deaths", 0) + 1
    if deaths <= RETRIES:
        requeue(study, trial, deaths)


def reap(study: optuna.Study) -> None:
    """Fail the trials whose worker died, and queue them again.

    A worker writes its process id as soon as its heartbeat has begun; one that was killed before left no heartbeat to miss.
    """
    with _without_warnings():
        fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if "pid" not in trial.user_attrs and datetime.now() - trial.datetime_start > timedelta(seconds=GRACE_SECONDS):
            study.tell(trial.number, state=TrialState.FAIL)
            _after_death(study, trial)


def retry_failed(study: optuna.Study) -> None:
    """Queue every failed trial again that no later one took up: what a launch is asked for, it tries again."""
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.state == TrialState.FAIL and (set_of := _parameters(trial)):
            if not any(_parameters(other) == set_of for other in trials if other.number > trial.number):
                requeue(study, trial)


def _parameters(trial: FrozenTrial) -> dict[str, Any]:
    return trial.params or trial.system_attrs.get("fixed_params", {})


# --- one trial --------------------------------------------------------------------------------------------------------


def suggest(search: Search, trial: Trial) -> dict[str, Any]:
    """Return the trial's parameters."""
    values = {}
    for name, room in search.space.items():
        if room.choices is not None:
            values[name] = trial.suggest_categorical(name, room.choices)
        elif isinstance(room.low, int) and isinstance(room.high, int):
            values[name] = trial.suggest_int(name, room.low, room.high, step=int(room.step or 1), log=room.log)
        else:
            value = trial.suggest_float(name, room.low, room.high, step=room.step, log=room.log)
            # 0.1 + 13 * 0.05 is 0.75 to the last bit only when rounded: the same setting is the same run.
            values[name] = round(value, 10) if room.step else value
    return values


def _patiently(action: Callable[[], Any]) -> Any:
    """Return what `action` does once no other process holds the run: another trial, or a matrix, is at the very same one."""
    while True:
        try:
            return action()
        except Busy:
            time.sleep(BUSY_SECONDS)


def objective(started: Started, trial: Trial, runs: Path, execution: Execution, console: Console) -> Any:
    """Train the trial's run, or take it as it is if it has run before, and return its value or values on the selection split.

    Raises:
        TrialPruned: the pruner gave it up; the run directory says so and keeps its state.
        Interrupted, UserError: as `worker.work`.
    """
    search = started.study
    trial.study.sampler = _sampler(search, trial.number)
    spec = started.trial_spec(suggest(search, trial))
    trial.set_user_attr("key", spec.key)
    run = RunDir(runs / spec.key)
    run.create(spec)

    def train() -> None:
        # What everything else is compared with is never pruned, and neither is what already cost its time.
        done = run.status()["state"] == "done"
        prunable = not done and "reference" not in trial.user_attrs

        def report(epoch: int, oiou: float) -> None:
            if len(search.objectives) == 1:
                trial.report(oiou, epoch + 1)
                if prunable and epoch + 1 < spec.recipe.epochs and trial.should_prune():
                    raise Pruned

        if not done:
            worker.work(run, started.place, execution, console, report)
            return
        for epoch, oiou in run.epoch_oious(spec.selection.split).items():
            report(epoch, oiou)

    try:
        _patiently(train)
    except Pruned:
        raise TrialPruned from None
    values = {"oiou": run.read_json("result.json")["selected"]["oiou"]}
    if "corrupted_oiou" in search.objectives:
        values["corrupted_oiou"] = _patiently(lambda: corrupted_oiou(started, run, execution, console))
    return tuple(values[name] for name in search.objectives)


def corrupted_oiou(started: Started, run: RunDir, execution: Execution, console: Console) -> float:
    """Return the mean oIoU of a finished run on the selection split under the search's corruptions; its records are kept."""
    split, conditions = run.spec().selection.split, started.study.conditions()
    evaluate_conditions([run], [split], conditions, lambda _: started.place, console, device=execution.device)
    return fmean(metrics.metrics(read_results(run, split, condition))["oiou"] for condition in conditions)


@contextlib.contextmanager
def _turn(runs: Path, started: Started) -> Iterator[Callable[[], None]]:
    """Wait for this worker's turn to take a trial, and yield what ends it.

    SQLite hands two workers that ask at once the same queued trial; and only one after the other can they see whether the
    budget is full.
    """
    with (folder(runs, started.name) / ".turn").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lambda: fcntl.flock(lock, fcntl.LOCK_UN)


def run_trial(started: Started, url: str, budget: int, runs: Path, execution: Execution, console: Console) -> None:
    """Run the next trial of a study in this process, if its budget leaves one: what a worker does.

    Raises:
        Interrupted: a stop was asked for; the trial is queued again.
        UserError: its run failed; the trial says why.
    """
    study = open_study(started, url)
    current: list[int] = []

    def one(trial: Trial) -> Any:
        current.append(trial.number)
        trial.set_user_attr("pid", os.getpid())
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        surplus = remaining(others, budget) <= 0
        if surplus:
            trial.set_user_attr("surplus", True)
        over()
        if surplus:
            raise Surplus
        try:
            return objective(started, trial, runs, execution, console)
        except UserError as error:
            trial.set_user_attr("reason", str(error))
            raise

    with readable_errors(url), _turn(runs, started) as over:
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
