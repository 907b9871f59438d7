"""The jobs of the suite, with their commands and what these need of a machine.

A folder of the user that holds `methods/` or `reports/` must not take the place of the suite's own
packages. Jobs are therefore started with `python -P`, and their children with PYTHONSAFEPATH.
"""

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmark.launch.base import Job, Launcher, Resources
from benchmark.runs import integrity
from benchmark.runs.execution import Execution, Places
from benchmark.runs.rundir import RunDir

ROOT = Path(__file__).parents[2]
# The weights of a hundred runs take minutes to read, and are compared when they are used.
DATA = [name for name in integrity.PATTERNS if name != integrity.WEIGHTS]
PYTHON = (sys.executable, "-P", "-m")
DISTRIBUTED = {
    # torchrun kills processes that need longer than this to save their state, in seconds.
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "100",
    # Else processes that are started anew look for those that have ended, under their addresses.
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
}


# --- command lines --------------------------------------------------------------------


def place_options(places: Places) -> list[str]:
    """Return the options that tell a child where things lie."""
    options = ["--runs", str(places.runs)]
    paths = {"data": places.data, "images": places.images, "pretrained": places.weights.folder}
    for name, path in paths.items():
        options += [f"--{name}", str(path)] if path is not None else []
    return options + (["--offline"] if places.weights.offline else [])


def execution_options(execution: Execution) -> list[str]:
    """Return the options that tell a child how runs are executed."""
    options = []
    for name, value in execution.settings().items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{option}" if value else f"--no-{option}")
        else:
            options += [f"--{option}", str(value)]
    return options


def environment(execution: Execution) -> dict[str, str]:
    """Return the environment variables of a child that runs networks."""
    threads = {"OMP_NUM_THREADS": str(execution.numerics.threads)}
    return threads | {"TOKENIZERS_PARALLELISM": "false"} | own_code()


def own_code() -> dict[str, str]:
    """Return the environment variables with which a child finds the suite's own packages."""
    variables = {"PYTHONSAFEPATH": "1"}
    # Children run the code of this source tree, even where it is not the one that is installed.
    if (ROOT / "pyproject.toml").exists():
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    return variables


def resources(execution: Execution, launcher: Launcher) -> Resources:
    """Return what a job needs of a machine.

    A job has a GPU for each of its processes. Where a launcher has more slots than GPUs, jobs of
    one process share cards evenly. The device `auto` asks for GPUs where there are any.

    Args:
        execution: how the job is executed.
        launcher: the launcher that will start it.
    """
    device = execution.numerics.device
    processes = execution.numerics.processes
    gpus: float = processes
    if device == "cpu" or (device == "auto" and launcher.gpus == 0):
        gpus = 0
    elif processes == 1 and launcher.gpus and launcher.slots > launcher.gpus:
        gpus = 1 / math.ceil(launcher.slots / launcher.gpus)
    return Resources(gpus, threads=processes * execution.numerics.threads)


# --- jobs -----------------------------------------------------------------------------


def run_job(
    run: RunDir, places: Places, execution: Execution, launcher: Launcher, after: Iterable[str] = ()
) -> Job:
    """Return the job that trains and evaluates a planned run, and has the name of the run.

    Several processes are started by torchrun (DDP).

    Args:
        run: the directory of the run.
        places: where things lie.
        execution: how the run is executed.
        launcher: the launcher that will start the job.
        after: names of the jobs that it needs.
    """
    processes = execution.numerics.processes
    # The one restart is for a run that stalls (`training.stall`).
    spread = ("--standalone", "--max-restarts=1", f"--nproc-per-node={processes}", "-m")
    torchrun = ("torch.distributed.run", *spread)
    command = (*PYTHON, *(torchrun if processes > 1 else ()), "benchmark.cli", "resume", run.key)
    distributed = DISTRIBUTED if processes > 1 else {}
    return Job(
        name=run.key,
        command=(*command, *place_options(places), *execution_options(execution)),
        log=run.path / "log.txt",
        environment=environment(execution) | distributed,
        resources=resources(execution, launcher),
        after=tuple(after),
        folder=run.path,
    )


def pseudo_masks_job(
    run: RunDir, places: Places, execution: Execution, launcher: Launcher, after: Iterable[str] = ()
) -> Job:
    """Return the job that makes the pseudo masks of a run.

    Args:
        run: the directory of the run, which must be finished when the job starts.
        places: where things lie.
        execution: how networks are run. The job has one process in any case.
        launcher: the launcher that will start the job.
        after: names of the jobs that it needs.
    """
    alone = execution.changed(processes=1)
    command = (*PYTHON, "benchmark.cli", "pseudo-masks", run.key, "--device", alone.numerics.device)
    return Job(
        name=f"{run.key} pseudo masks",
        command=(*command, *place_options(places)),
        log=run.path / "log.txt",
        environment=environment(alone),
        resources=resources(alone, launcher),
        after=tuple(after),
        # The run's own folder keeps the id of the job that trains it.
        folder=run.path / "pseudo_masks",
    )


def run_jobs(
    runs: Sequence[RunDir], places: Places, execution: Execution, launcher: Launcher
) -> list[Job]:
    """Return the jobs of the planned runs that are not done, in the order in which they begin.

    A run that is trained on the pseudo masks of another comes after the job that makes these,
    which comes after the other run.

    Args:
        runs: the directories of all planned runs, done or not.
        places: where things lie.
        execution: how runs are executed.
        launcher: the launcher that will start the jobs.
    """
    specs = {run.key: run.spec() for run in runs}
    remaining = [run for run in runs if run.checked_status(DATA).state != "done"]
    makers = {run.key: getattr(specs[run.key].recipe, "pseudo_masks", "") for run in remaining}
    # Runs that others wait for come first. Runs of many passes come next, so that at the end
    # nothing waits for a long one alone.
    remaining.sort(
        key=lambda run: (run.key not in makers.values(), -specs[run.key].strategy.passes)
    )

    names = {run.key for run in remaining}
    jobs = {}
    for run in remaining:
        maker = makers[run.key]
        after = []
        if maker and not _has_pseudo_masks(places.runs / maker):
            maker_run = RunDir(places.runs / maker)
            masks = pseudo_masks_job(maker_run, places, execution, launcher, names & {maker})
            jobs[masks.name] = masks
            after = [masks.name]
        jobs[run.key] = run_job(run, places, execution, launcher, after)
    return list(jobs.values())


def _has_pseudo_masks(folder: Path) -> bool:
    # The import brings torch, which most plans do without.
    from benchmark.training.pseudo_masks import FILE

    return (folder / FILE).exists()


def evaluation_job(
    run: str | None,
    options: Mapping[str, object],
    places: Places,
    execution: Execution,
    launcher: Launcher,
) -> Job:
    """Return the job that evaluates a network on a split and prints the numbers into its log.

    Args:
        run: the key of a finished run, or None where `options` name a checkpoint file.
        options: name -> value of the command's other options. A value of None or False leaves the
            option out, and True makes it a flag.
        places: where things lie.
        execution: how networks are run. The job has one process in any case.
        launcher: the launcher that will start the job.
    """
    alone = execution.changed(processes=1)
    command = [*PYTHON, "benchmark.cli", "evaluate", *([run] if run else [])]
    for name, value in options.items():
        if value is True:
            command.append(f"--{name}")
        elif value is not None and value is not False:
            # The job may start in another folder, so it gets absolute paths.
            command += [f"--{name}", str(value.resolve() if isinstance(value, Path) else value)]
    of_set = str(options.get("dataset") or "").replace(":", "-")
    # An export says its method itself.
    network = run or options.get("name") or options["method"] or Path(options["weights"]).stem
    name = "-".join(filter(None, [network, of_set, options["split"]]))
    folder = places.runs / "evaluations" / name
    return Job(
        name=name,
        command=(*command, *place_options(places)),
        log=folder / "log.txt",
        environment=environment(alone),
        resources=resources(alone, launcher),
        folder=folder,
    )


def trial_job(
    study: str,
    name: str,
    storage: str,
    budget: int,
    log: Path,
    places: Places,
    execution: Execution,
    launcher: Launcher,
) -> Job:
    """Return the job that runs the next trial of a search.

    Args:
        study: the name of the search.
        name: the name of the job, which its trial will keep.
        storage: the URL of Optuna's storage. It may hold a password, so the job gets it in its
            environment and not on its command line.
        budget: the number of trials to complete or prune.
        log: the file for the output.
        places: where things lie.
        execution: how runs are executed. The job has one process in any case.
        launcher: the launcher that will start the job.
    """
    alone = execution.changed(processes=1)
    command = (*PYTHON, "benchmark.cli", "study", "trial", study)
    options = ("--job", name, "--budget", str(budget))
    return Job(
        name=name,
        command=(*command, *options, *place_options(places), *execution_options(alone)),
        log=log,
        environment={**environment(alone), "RISBENCH_STORAGE": storage},
        resources=resources(alone, launcher),
    )


def robustness_job(
    name: str,
    runs: Sequence[RunDir],
    conditions: Sequence[object],
    splits: Sequence[str],
    places: Places,
    execution: Execution,
    launcher: Launcher,
    cache: Path | None = None,
    after: Iterable[str] = (),
) -> Job:
    """Return the job that evaluates finished runs under the conditions that they lack.

    Args:
        name: the name of the job.
        runs: the directories of the runs. An image is corrupted once for all of them, so they best
            share one data set.
        conditions: conditions or their names.
        splits: the splits to evaluate on.
        places: where things lie.
        execution: how networks are run. Its `workers` decode and corrupt images ahead of them.
        launcher: the launcher that will start the job.
        cache: the folder that keeps corrupted images, or None to keep none.
        after: names of the jobs that it needs.
    """
    # The import brings pandas, which most jobs do without.
    from benchmark.robustness.results import results_path

    alone = execution.changed(processes=1)
    command = (*PYTHON, "benchmark.cli", "robustness", *(run.key for run in runs))
    options = ["--here"]
    options += ["--splits", ",".join(splits), "--conditions", ",".join(map(str, conditions))]
    options += ["--device", alone.numerics.device, "--threads", str(alone.numerics.threads)]
    options += ["--workers", str(alone.how.workers)] + (["--cache", str(cache)] if cache else [])
    folder = places.runs / "robustness" / name
    return Job(
        name=name,
        command=(*command, *options, *place_options(places)),
        log=folder / "log.txt",
        environment=environment(alone),
        resources=resources(alone, launcher),
        after=tuple(after),
        folder=folder,
        makes=tuple(
            results_path(run, split, condition)
            for split in splits
            for condition in conditions
            for run in runs
        ),
    )
