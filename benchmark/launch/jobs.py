"""The jobs of the suite: the commands that children get, and what these need of a machine.

Children are started with `python -P`, and theirs with PYTHONSAFEPATH: a folder of the user that
holds `methods/` or `reports/` must not take the place of the suite's own packages.
"""

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmark.launch.base import Job, Launcher, Resources
from benchmark.runs.execution import Execution, Places
from benchmark.runs.rundir import RunDir

ROOT = Path(__file__).parents[2]
PYTHON = (sys.executable, "-P", "-m")


# --- command lines --------------------------------------------------------------------------------


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
        options += [f"--{name.replace('_', '-')}", str(value)]
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
    """Return what a job needs that is executed like this.

    A job has a GPU for each of its processes. Where a launcher has more slots than GPUs, jobs of
    one process share cards evenly. `auto` asks for GPUs where there are any.
    """
    device, processes = execution.numerics.device, execution.numerics.processes
    gpus: float = processes
    if device == "cpu" or (device == "auto" and launcher.gpus == 0):
        gpus = 0
    elif processes == 1 and launcher.gpus and launcher.slots > launcher.gpus:
        gpus = 1 / math.ceil(launcher.slots / launcher.gpus)
    return Resources(gpus, threads=processes * execution.numerics.threads)


# --- jobs -----------------------------------------------------------------------------------------


def run_job(
    run: RunDir, places: Places, execution: Execution, launcher: Launcher, after: Iterable[str] = ()
) -> Job:
    """Return the job that trains and evaluates a planned run; it is called like the run.

    Several processes are started by torchrun (DDP).
    """
    processes = execution.numerics.processes
    torchrun = ("torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m")
    command = (*PYTHON, *(torchrun if processes > 1 else ()), "benchmark.cli", "resume", run.key)
    return Job(
        name=run.key,
        command=(*command, *place_options(places), *execution_options(execution)),
        log=run.path / "log.txt",
        environment=environment(execution),
        resources=resources(execution, launcher),
        after=tuple(after),
        folder=run.path,
    )


def pseudo_masks_job(
    run: RunDir, places: Places, execution: Execution, launcher: Launcher, after: Iterable[str] = ()
) -> Job:
    """Return the job that makes the pseudo masks of a run, which is finished by then."""
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
    """Return the jobs that do what is left of planned runs, in the order in which they begin.

    A run that is trained on the pseudo masks of another comes after the job that makes these,
    which comes after the other run. What is done already is left out.
    """
    specs = {run.key: run.spec() for run in runs}
    left = [run for run in runs if run.status().state != "done"]
    makers = {run.key: getattr(specs[run.key].recipe, "pseudo_masks", "") for run in left}
    # Runs that others wait for come first, then those of many passes: the longest ones must not be
    # what everything waits for at the end.
    left.sort(key=lambda run: (run.key not in makers.values(), -specs[run.key].strategy.passes))

    names, jobs = {run.key for run in left}, {}
    for run in left:
        maker, after = makers[run.key], []
        if maker and not _has_pseudo_masks(places.runs / maker):
            made = RunDir(places.runs / maker)
            masks = pseudo_masks_job(made, places, execution, launcher, names & {maker})
            jobs[masks.name] = masks
            after = [masks.name]
        jobs[run.key] = run_job(run, places, execution, launcher, after)
    return list(jobs.values())


def _has_pseudo_masks(folder: Path) -> bool:
    from benchmark.training.pseudo_masks import FILE  # it brings torch, which most plans do without

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
        run: key of a finished run; None where `options` name a checkpoint file.
        options: name -> value of the command's other options. What is None or False is left out,
            and True stands for a flag.
    """
    alone = execution.changed(processes=1)
    command = [*PYTHON, "benchmark.cli", "evaluate", *([run] if run else [])]
    for name, value in options.items():
        if value is True:
            command.append(f"--{name}")
        elif value is not None and value is not False:
            # The job may begin in another folder.
            command += [f"--{name}", str(value.resolve() if isinstance(value, Path) else value)]
    name = f"{run or options['method']}-{options['split']}"
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
        study: name of the search. name: of the job, which its trial will name.
        storage: Optuna's URL. It may hold a password, so it is handed down in the environment.
        budget: trials to complete or prune. log: for the output.
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
    """Return the job that evaluates finished runs under conditions, where they have no results.

    Args:
        name: of the job. runs: best those of one data set, for which an image is corrupted once.
        conditions: conditions or their names. splits: of the data sets.
        cache: folder that keeps corrupted images.
        execution: its `workers` decode and corrupt images ahead of the networks.
    """
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
    )
