"""Commands on studies: ablation grids and Optuna searches."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from benchmark.base.errors import UserError
from benchmark.cli import runs as run_commands
from benchmark.cli.options import (
    OUT,
    RUNS,
    DataOption,
    DeviceOption,
    ImagesOption,
    OfflineOption,
    OutOption,
    PresetOption,
    PretrainedOption,
    RunsOption,
    SeedsOption,
    UriOption,
    console,
    numbers,
)

app = typer.Typer(no_args_is_help=True, help="Ablation grids of the paper, and searches with Optuna.")

NameArgument = Annotated[str, typer.Argument(help="A study that was started (see `risbench study list`).")]
StorageOption = Annotated[
    str | None, typer.Option("--storage", envvar="RISBENCH_STORAGE", help="Optuna's storage [RUNS/optuna.db].")
]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Runs at a time [preset's].")]
TrialsOption = Annotated[int | None, typer.Option(min=1, help="Trials to complete or prune [study's].")]
SyncOption = Annotated[bool, typer.Option(help="Project the runs into MLflow while they go on.")]


@app.command("run")
def run_study(
    name: Annotated[str, typer.Argument(help="A shipped study or a YAML file.")],
    preset: PresetOption = "quick",
    method: Annotated[str | None, typer.Option(help="[study's]")] = None,
    dataset: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    variant: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    seeds: SeedsOption = None,
    trials: TrialsOption = None,
    workers: WorkersOption = None,
    sampler: Annotated[str | None, typer.Option(help="tpe or gp [study's].")] = None,
    pruner: Annotated[str | None, typer.Option(help="hyperband or none [study's].")] = None,
    objectives: Annotated[str | None, typer.Option(help="oiou, or oiou,corrupted_oiou.")] = None,
    called: Annotated[str | None, typer.Option("--name", help="Its name [STUDY-PRESET].")] = None,
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    storage: StorageOption = None,
    sync: SyncOption = True,
    uri: UriOption = None,
    out: OutOption = OUT,
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
) -> None:
    """Run what a study still owes and write its report; started again, it goes on from where it was."""
    from benchmark.cli.options import names
    from studies import study

    changes: dict[str, Any] = {
        "trials": trials,
        "sampler": sampler,
        "pruner": pruner,
        "objectives": tuple(names(objectives)) if objectives else None,
    }
    options = {"method": method, "dataset": dataset, "variant": variant, "seeds": numbers(seeds)}
    with console.status("reading the data"):
        started = study.start(name, preset, options, data, images, changes, called)
    if trials is None and started.study.kind == "search" and started.name in study.names(runs):
        started = _of_trials(started, study.load(runs, started.name).study.trials)  # as it was last asked for
    _work(started, runs, workers, storage, sync, uri, out)


@app.command()
def resume(
    name: NameArgument,
    trials: TrialsOption = None,
    workers: WorkersOption = None,
    runs: RunsOption = RUNS,
    storage: StorageOption = None,
    sync: SyncOption = True,
    uri: UriOption = None,
    out: OutOption = OUT,
    pretrained: PretrainedOption = None,
    offline: OfflineOption = False,
) -> None:
    """Go on with a study that was started, as it was started; more `--trials` extend a search."""
    from studies import study

    started = study.load(runs, name)
    if trials:
        if started.study.kind != "search":
            raise UserError(f"{name} is a grid: it has rows and no trials.")
        started = _of_trials(started, trials)
    _work(started, runs, workers, storage, sync, uri, out)


def _of_trials(started: Any, trials: int) -> Any:
    return started.model_copy(update={"study": started.study.model_copy(update={"trials": trials})})


def _work(
    started: Any, runs: Path, workers: int | None, storage: str | None, sync: bool, uri: str | None, out: Path
) -> None:
    work = _grid if started.study.kind == "grid" else _search
    work(started, runs, workers or started.jobs, storage, sync, uri, out)


def _grid(started: Any, runs: Path, workers: int, storage: str | None, sync: bool, uri: str | None, out: Path) -> None:
    from studies import study

    study.save(runs, started)
    run_commands.work_through(
        started.name,
        "study",
        started.specs(),
        started.place,
        started.how,
        runs,
        workers,
        1,
        sync,
        uri,
        lambda: _report(started, runs, storage, out),
    )


def _search(
    started: Any, runs: Path, workers: int, storage: str | None, sync: bool, uri: str | None, out: Path
) -> None:
    from benchmark.tracking import watch
    from studies import launcher
    from studies.trials import default_storage

    url = storage or default_storage(runs)
    child = watch.start_sync(runs, uri) if sync else None
    try:
        study, ended = launcher.run(started, url, runs, workers, started.how, console)
        if any(trial.state.name == "COMPLETE" for trial in study.trials):
            _report(started, runs, storage, out)
    finally:
        run_commands.end_sync(child, runs)
    if ended.state == "stopped":
        console.print(f"stopped; `risbench study resume {started.name}` goes on from here")
        raise typer.Exit(130)
    if ended.state == "failing":
        raise UserError(f"study {started.name} stopped: {ended.reason}.")


def _report(started: Any, runs: Path, storage: str | None, out: Path) -> None:
    """Write and print the report, and leave a copy where the projection into MLflow finds it."""
    from benchmark.base.files import atomic_write
    from studies import study
    from studies.trials import default_storage, existing

    if started.study.kind == "grid":
        from reports.studies import grids

        paths = grids.write_grid(started, runs, out)
        grids.render_grid(console, started, runs)
    else:
        from reports.studies import searches

        found = existing(started, storage or default_storage(runs))
        paths = searches.write_search(started, found, runs, out)
        searches.render_search(console, started, found, runs)
    copy = study.folder(runs, started.name) / "report"
    for path in paths:
        atomic_write(copy / path.name, lambda aside, path=path: aside.write_bytes(path.read_bytes()))
        console.print(f"wrote {path}")


@app.command("list")
def list_studies(runs: RunsOption = RUNS, storage: StorageOption = None) -> None:
    """List the shipped studies, and those that were started."""
    from benchmark.runs.rundir import RunDir
    from studies import study
    from studies.trials import default_storage, existing, finished

    table = Table("study", "kind", "method", "what it asks", box=None)
    for name in study.shipped():
        shipped = study.read_study(name)
        table.add_row(name, shipped.kind, shipped.method, shipped.description)
    console.print(table)
    if not study.names(runs):
        return
    table = Table("started", "kind", "method", "runs or trials finished", box=None)
    for name in study.names(runs):
        started = study.load(runs, name)
        if started.study.kind == "grid":
            states = [RunDir(runs / spec.key).status()["state"] for spec in started.specs()]
            done = f"{states.count('done')}/{len(states)}"
        else:
            try:
                found = existing(started, storage or default_storage(runs))
                done = f"{finished(found.trials)}/{started.study.trials}"
            except UserError:
                done = "not in this storage"
        table.add_row(name, started.study.kind, started.study.method, done)
    console.print()
    console.print(table)


@app.command()
def show(
    name: NameArgument,
    format: Annotated[Literal["table", "csv"], typer.Option(help="table or csv.")] = "table",
    runs: RunsOption = RUNS,
    storage: StorageOption = None,
) -> None:
    """Show a study: a search's trials, each with its state, or a grid's rows."""
    from studies import study
    from studies.trials import default_storage, existing

    started = study.load(runs, name)
    if started.study.kind == "grid":
        from reports.studies import grids

        if format == "csv":
            typer.echo(grids.csv(started, runs), nl=False)
        else:
            grids.render_grid(console, started, runs)
        return
    from reports.studies import searches

    found = existing(started, storage or default_storage(runs))
    if format == "csv":
        typer.echo(searches.csv(started, found, runs), nl=False)
    else:
        searches.render_search(console, started, found, runs)


@app.command()
def report(name: NameArgument, runs: RunsOption = RUNS, storage: StorageOption = None, out: OutOption = OUT) -> None:
    """Write a study's tables and figures again and print them."""
    from studies import study

    _report(study.load(runs, name), runs, storage, out)


@app.command(hidden=True)
def trial(
    name: NameArgument,
    storage: Annotated[str, typer.Option("--storage")],
    budget: Annotated[int, typer.Option()],
    runs: RunsOption = RUNS,
    device: DeviceOption = "auto",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    workers: Annotated[int, typer.Option(min=0)] = 0,
    checkpoint_seconds: Annotated[float, typer.Option(min=0)] = 60.0,
    log_every: Annotated[int, typer.Option(min=1)] = 10,
) -> None:
    """Run one trial of a search in this process: what its launcher starts."""
    from benchmark.runs.execution import Execution
    from studies import study
    from studies.trials import run_trial

    how = Execution(device, threads, workers, checkpoint_seconds, log_every)
    run_trial(study.load(runs, name), storage, budget, runs, how, console)
