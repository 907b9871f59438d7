"""Commands that carry runs elsewhere: into MLflow, and in archives."""

import os
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.options import RUNS, RunsOption, UriOption, console

app = typer.Typer()


@app.command()
def sync(
    runs: RunsOption = RUNS,
    uri: UriOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until the parent process ends.")] = False,
) -> None:
    """Project the run directories into MLflow: idempotent, and again after the database was lost."""
    from benchmark.tracking import mlflow_store, watch

    if watch:
        watch.watch(runs, uri, os.getppid())
    else:
        console.print(str(mlflow_store.sync(runs, uri)))


@app.command()
def ui(
    runs: RunsOption = RUNS,
    uri: UriOption = None,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 5000,
) -> None:
    """Bring MLflow up to date and open its UI on it."""
    from benchmark.tracking import mlflow_store

    console.print(str(mlflow_store.sync(runs, uri)))
    console.print(f"MLflow UI on http://{host}:{port}/#/experiments?workflowType=machine_learning (Ctrl-C ends it)")
    command = mlflow_store.ui_command(runs, uri, host, port)
    os.execvp(command[0], command)


@app.command()
def pack(
    out: Annotated[Path, typer.Argument(help="Folder for the archives.")],
    runs: RunsOption = RUNS,
    megabytes: Annotated[float, typer.Option(help="Largest archive.")] = 15.5,
) -> None:
    """Archive run directories without weights and resume points, to carry them elsewhere and sync or report there."""
    from benchmark.runs import archive

    for path in archive.pack(runs, out, int(megabytes * 2**20)):
        console.print(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB)")


@app.command()
def unpack(archives: Annotated[list[Path], typer.Argument(help="What `pack` wrote.")], runs: RunsOption = RUNS) -> None:
    """Unpack archives into the runs folder; runs that are there already are left alone."""
    from benchmark.runs import archive

    console.print(f"unpacked {archive.unpack(archives, runs)} runs into {runs}")
