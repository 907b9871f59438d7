"""Commands on the folder of runs: they project it into MLflow, archive it, and clean it."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmark import tracking
from benchmark.cli.options import RUNS, RunsOption, TrackerOption, UriOption, console

app = typer.Typer()
PANEL = "Store"


@app.command(rich_help_panel=PANEL)
def sync(
    runs: RunsOption = RUNS,
    uri: UriOption = None,
    tracker: TrackerOption = tracking.DEFAULT,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Project the run directories into MLflow.

    What is there already is not written twice. After a loss of the database, everything is written
    again.

    Example: risbench sync --uri http://tracking.lab:5000
    """
    from benchmark.tracking import watch as watching
    from reports.group_report import maker

    store = tracking.TRACKERS.get(tracker)
    if watch:
        watching.watch(store, runs, uri, reports=maker(runs))
    else:
        console.print(str(store.sync(runs, uri, maker(runs))))


@app.command(rich_help_panel=PANEL)
def ui(
    runs: RunsOption = RUNS,
    uri: UriOption = None,
    tracker: TrackerOption = tracking.DEFAULT,
    host: Annotated[str, typer.Option(help="Address that the UI listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the UI.")] = 5000,
) -> None:
    """Bring MLflow up to date and serve its UI.

    Example: risbench ui --port 5001
    """
    from reports.group_report import maker

    store = tracking.TRACKERS.get(tracker)
    console.print(str(store.sync(runs, uri, maker(runs))))
    command, variables = store.ui_command(runs, uri, host, port)
    console.print(f"MLflow's UI is on http://{host}:{port} (Ctrl-C ends it). In it,")
    for step in store.first_clicks:
        console.print(f"  {step}")
    os.execvpe(command[0], command, os.environ | variables)


@app.command(rich_help_panel=PANEL)
def pack(
    out: Annotated[Path, typer.Argument(help="Folder for the archives.")],
    runs: RunsOption = RUNS,
    megabytes: Annotated[float, typer.Option(help="Size of the largest archive in MiB.")] = 15.5,
) -> None:
    """Archive run directories without weights and resume points.

    The archives can be carried elsewhere, and reports can be written there.

    Example: risbench pack /mnt/usb
    """
    from benchmark.runs import archive

    for path in archive.pack(runs, out, int(megabytes * 2**20)):
        console.print(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB)")


@app.command("unpack", rich_help_panel=PANEL)
def unpack_archives(
    archives: Annotated[list[Path], typer.Argument(help="What `pack` wrote.")],
    runs: RunsOption = RUNS,
) -> None:
    """Unpack archives into the folder of runs.

    Archives of one `pack` belong together. A run that is there already is compared and kept.

    Example: risbench unpack /mnt/usb/runs-*.tar.gz
    """
    from benchmark.runs.unpacking import unpack

    unpacked = unpack(archives, runs)
    same = f", {unpacked.same} were there already" if unpacked.same else ""
    console.print(f"unpacked {unpacked.new} runs into {runs}{same}")
    for name in unpacked.kept:
        console.print(f"kept {name}, which differs from the one in the archives")


@app.command(rich_help_panel=PANEL)
def clean(
    runs: RunsOption = RUNS,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete runs and caches that nothing needs any more.

    These are superseded, failed and pruned runs, resume points of finished runs, and caches. The
    command says how large they are, and asks before it deletes them.

    Example: risbench clean
    """
    from benchmark.runs import cleaning

    litter = cleaning.litter(runs)
    if not litter:
        console.print("there is nothing to clean")
        return
    table = Table("what", "number", "GB", box=None)
    for heading, paths in litter.items():
        size = sum(map(cleaning.size, paths))
        table.add_row(heading, str(len(paths)), f"{size / 1e9:.2f}")
    console.print(table)
    total = sum(cleaning.size(path) for paths in litter.values() for path in paths)
    if yes or typer.confirm(f"Delete {total / 1e9:.2f} GB?"):
        cleaning.remove(litter)
        console.print(f"deleted {total / 1e9:.2f} GB")
