"""Commands on studies, which are ablation grids and searches with Optuna."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from benchmark.base.errors import UserError, WorldError
from benchmark.cli.jobs import conclude, syncing, work_through_runs
from benchmark.cli.options import (
    OUT,
    RUNS,
    OutOption,
    PresetOption,
    Running,
    RunsOption,
    StorageOption,
    Submission,
    Where,
    console,
    errors,
    names,
    numbers,
    spread,
)
from benchmark.cli.report import tell_written, write_claims

if TYPE_CHECKING:  # Help must not import what runs need.
    from benchmark.runs.execution import Places
    from studies.study import Started

app = typer.Typer(
    no_args_is_help=True, help="Run ablation grids of the papers, and searches with Optuna."
)

NameArgument = Annotated[
    str, typer.Argument(help="A study that was started (see `risbench study list`).")
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Runs at a time (default: the preset's).")
]
TrialsOption = Annotated[
    int | None, typer.Option(min=1, help="Trials to complete or prune (default: the study's).")
]


@app.command("run")
@spread
def run_study(
    name: Annotated[str, typer.Argument(help="A shipped study or a YAML file.")],
    where: Where,
    submission: Submission,
    preset: PresetOption = "quick",
    method: Annotated[str | None, typer.Option(help="Method (default: the study's).")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Data set (default: the preset's first).")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Variant (default: the preset's first).")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, comma-separated (default: the preset's).")
    ] = None,
    trials: TrialsOption = None,
    jobs: JobsOption = None,
    sampler: Annotated[
        str | None, typer.Option(help="Sampler: tpe or gp (default: the study's).")
    ] = None,
    pruner: Annotated[
        str | None, typer.Option(help="Pruner: hyperband or none (default: the study's).")
    ] = None,
    objectives: Annotated[
        str | None,
        typer.Option(
            help="One or two metrics, such as METRIC,corrupted_METRIC (default: the study's)."
        ),
    ] = None,
    called: Annotated[
        str | None, typer.Option("--name", help="Name of what is started (default: STUDY-PRESET).")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Run what is left of a study, then write its report.

    Started again, the command goes on from where the study was.

    Example: risbench study run components --preset gpu --seeds 0,1,2
    """
    from studies import study

    changes: dict[str, Any] = {
        "trials": trials,
        "sampler": sampler,
        "pruner": pruner,
        "objectives": tuple(names(objectives)) if objectives else None,
    }
    options = {
        "method": method,
        "dataset": dataset,
        "variant": variant,
        "seeds": numbers(seeds, "--seeds"),
    }
    places = where.places(reports=submission.out, tracking=submission.uri)
    with console.status("reading the data"):
        started = study.start(name, preset, options, places, changes, called)
    if (
        trials is None
        and started.study.kind == "search"
        and started.name in study.names(where.runs)
    ):
        # `study resume --trials` may have changed the number since.
        started = _of_trials(started, study.load(where.runs, started.name).study.trials)
    _work(started, places, submission, jobs, storage)


@app.command()
@spread
def resume(
    name: NameArgument,
    where: Where,
    submission: Submission,
    trials: TrialsOption = None,
    jobs: JobsOption = None,
    storage: StorageOption = None,
) -> None:
    """Go on with a study as it was started.

    A larger number of `--trials` extends a search.

    Example: risbench study resume maskris-quick --trials 20
    """
    from studies import study

    started = study.load(where.runs, name)
    if trials:
        if started.study.kind != "search":
            raise UserError(f"{name} is a grid, which has rows and no trials: leave --trials out.")
        started = _of_trials(started, trials)
    places = where.places(reports=submission.out, tracking=submission.uri)
    _work(started, places, submission, jobs, storage)


def _of_trials(started: Started, trials: int) -> Started:
    return started.model_copy(update={"study": started.study.model_copy(update={"trials": trials})})


def _work(
    started: Started, places: Places, submission: Submission, jobs: int | None, storage: str | None
) -> None:
    """Run a study, whose data lie where they did when it was started unless `places` says so."""
    places = dataclasses.replace(
        places, data=places.data or started.data, images=places.images or started.images
    )
    work = _grid if started.study.kind == "grid" else _search
    work(started, places, submission, jobs or started.jobs, storage)


def _grid(
    started: Started, places: Places, submission: Submission, jobs: int, storage: str | None
) -> None:
    from benchmark.runs.groups import write_plan
    from studies import study

    study.save(places.runs, started)
    write_plan(places.runs, started.plan())
    outcomes = work_through_runs(started.specs(), places, started.how, submission, jobs)
    conclude(outcomes, lambda: write_study_report(started, places.runs, storage, places.reports))


def _search(
    started: Started, places: Places, submission: Submission, jobs: int, storage: str | None
) -> None:
    from studies import launcher, trials

    url = storage or trials.default_storage(places.runs)
    with syncing(places, submission):
        slots = submission.started(jobs)
        ended = launcher.run(started, url, places, slots, started.how, console)
        if ended.complete:
            write_study_report(started, places.runs, storage, places.reports)
    if ended.state == "stopped":
        console.print(f"stopped: `risbench study resume {started.name}` goes on from here")
        raise typer.Exit(130)
    if ended.state == "failing":
        raise UserError(f"study {started.name} stopped: {ended.reason}.")


def write_study_report(started: Started, runs: Path, storage: str | None, out: Path) -> None:
    """Write and print the report of a study, with a copy where the tracker finds it.

    Args:
        started: the study.
        runs: the folder of the run directories.
        storage: the URL of Optuna's storage. None stands for the one in the folder of runs.
        out: the folder for the report.
    """
    from reports.layout import files
    from studies import study

    if started.study.kind == "grid":
        from reports.studies.grids import report as grid_report
        from reports.studies.grids.results import results

        rows = results(started, runs)
        paths = grid_report.write(rows, out)
        grid_report.render(console, rows)
        paths += write_claims(runs, paths[0].parent, rows.collected)
    else:
        from reports.studies.searches import report as search_report
        from studies import trials

        existing = trials.existing(started, storage or trials.default_storage(runs))
        paths = search_report.write(started, existing, runs, out)
        search_report.render(console, started, existing, runs)
    copies = study.folder(runs, started.name) / "report"
    files.write(copies, {path.name: path.read_bytes() for path in paths})
    tell_written(paths)


@app.command("list")
def list_studies(runs: RunsOption = RUNS, storage: StorageOption = None) -> None:
    """List the shipped studies, and those that were started.

    Example: risbench study list
    """
    from benchmark.runs.rundir import RunDir
    from studies import study

    table = Table("study", "kind", "method", "what it asks", box=None)
    for name in study.shipped():
        shipped = study.read_study(name)
        table.add_row(name, shipped.kind, shipped.method, shipped.description)
    console.print(table)
    if not study.names(runs):
        return
    table = Table("started", "kind", "method", "runs or trials finished", box=None)
    problems = []
    for name in study.names(runs):
        try:
            started = study.load(runs, name)
        except WorldError as error:
            problems.append(str(error))
            table.add_row(name, "damaged", "", "")
            continue
        if started.study.kind == "grid":
            states = [RunDir(runs / spec.key).status().state for spec in started.specs()]
            done = f"{states.count('done')}/{len(states)}"
        else:
            try:
                done = _finished_trials(started, storage, runs)
            except WorldError as error:
                problems.append(str(error))
                done = "not readable"
        table.add_row(name, started.study.kind, started.study.method, done)
    console.print()
    console.print(table)
    for problem in dict.fromkeys(problems):
        errors.print(problem, soft_wrap=True)


def _finished_trials(started: Started, storage: str | None, runs: Path) -> str:
    from studies import trials

    try:
        search = trials.existing(started, storage or trials.default_storage(runs))
    except WorldError:
        raise
    except UserError:
        return "not in this storage"
    return f"{trials.finished(search.trials)}/{started.study.trials}"


@app.command()
def show(
    name: NameArgument,
    form: Annotated[
        Literal["table", "csv"], typer.Option("--format", help="Format: table or csv.")
    ] = "table",
    runs: RunsOption = RUNS,
    storage: StorageOption = None,
) -> None:
    """Show the trials of a search, each with its state, or the rows of a grid.

    Example: risbench study show maskris-quick --format csv
    """
    from studies import study

    started = study.load(runs, name)
    if started.study.kind == "grid":
        from reports.layout import files
        from reports.studies.grids import report as grid_report
        from reports.studies.grids.results import results

        rows = results(started, runs)
        if form == "csv":
            typer.echo(files.csv(rows.table), nl=False)
        else:
            grid_report.render(console, rows)
        return
    from reports.studies.searches import ranking
    from reports.studies.searches import report as search_report
    from studies import trials

    existing = trials.existing(started, storage or trials.default_storage(runs))
    if form == "csv":
        typer.echo(ranking.csv(started, existing), nl=False)
    else:
        search_report.render(console, started, existing, runs)


@app.command()
def report(
    name: NameArgument, runs: RunsOption = RUNS, storage: StorageOption = None, out: OutOption = OUT
) -> None:
    """Write a study's tables and figures again and print them.

    Example: risbench study report components-quick
    """
    from studies import study

    write_study_report(study.load(runs, name), runs, storage, out)


@app.command(hidden=True)
@spread
def trial(
    name: NameArgument,
    where: Where,
    running: Running,
    job: Annotated[str, typer.Option("--job")],
    budget: Annotated[int, typer.Option()],
    storage: StorageOption = None,
) -> None:
    """Run one trial of a search in this process. The loop of the search starts this command."""
    from studies import study, trials

    started = study.load(where.runs, name)
    execution = running.execution()
    url = storage or trials.default_storage(where.runs)
    trials.run_trial(started, url, budget, where.places(), execution, console, job)
