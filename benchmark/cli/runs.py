"""Commands on runs one by one: making one, going on with one, and how far they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from benchmark.base.errors import UserError
from benchmark.cli.matrix import PANEL, Chosen, resolve
from benchmark.cli.options import (
    RUNS,
    PresetOption,
    RunArgument,
    Running,
    RunsOption,
    Where,
    console,
    spread,
)

if TYPE_CHECKING:  # help does without what runs need
    from benchmark.runs.groups import Cell
    from benchmark.runs.rundir import RunStatus

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
@spread
def run(
    where: Where,
    method: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    strategy: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    dataset: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    variant: Annotated[str | None, typer.Option(help="[preset's first]")] = None,
    seed: Annotated[int | None, typer.Option(help="[preset's first]")] = None,
    pseudo_masks: Annotated[
        str | None,
        typer.Option(
            help="Run whose pseudo masks are the targets, in place of one that is made for it."
        ),
    ] = None,
    preset: PresetOption = "quick",
) -> None:
    """Train and evaluate one run in this process; started again, it goes on from where it was.

    Example: risbench run --seed 1
    """
    from benchmark.runs.preset import read_preset, replaced
    from benchmark.runs.rundir import RunDir, find_run
    from benchmark.training import worker

    read = read_preset(preset)
    one = replaced(
        read,
        methods=[method or read.methods[0]],
        strategies=[strategy or read.strategies[0]],
        datasets=[dataset or read.datasets[0]],
        variants=[variant or read.variants[0]],
        seeds=[read.seeds[0] if seed is None else seed],
    )
    if pseudo_masks:
        name = one.methods[0]
        made_by = {"pseudo_masks": find_run(where.runs, pseudo_masks).key}
        recipes = {**one.recipes, name: one.recipes.get(name, {}) | made_by}
        one = one.model_copy(update={"recipes": recipes})
    found = resolve(Chosen("run", "", one, one), where.places())
    for spec in found.needed:
        if not (where.runs / spec.key / "pseudo.json").exists():
            raise UserError(
                f"this run is trained on the pseudo masks of {spec.key}, which are not there:"
                " `risbench matrix` makes them first, or name another run with --pseudo-masks."
            )
    directory = RunDir(where.runs / found.specs[0].key)
    directory.create(found.specs[0])
    worker.work(directory, found.opened, found.execution, console)


@app.command(rich_help_panel=PANEL)
@spread
def resume(key: RunArgument, where: Where, running: Running) -> None:
    """Work on one planned or interrupted run in this process, whatever plan it belongs to.

    Example: risbench resume RUN
    """
    from benchmark.runs.resolve import Opened
    from benchmark.runs.rundir import find_run
    from benchmark.training import worker

    directory = find_run(where.runs, key)
    places = worker.places_of(directory, where.places())
    worker.work(directory, Opened(places), running.execution(), console)


@app.command(rich_help_panel=PANEL)
def status(
    plan: Annotated[
        str | None, typer.Argument(help="A planned preset or study [all runs].")
    ] = None,
    runs: RunsOption = RUNS,
) -> None:
    """List runs and how far they are; with a name, every planned cell of that preset or study.

    Example: risbench status quick
    """
    from benchmark.runs.groups import read_group
    from benchmark.runs.rundir import RunDir, all_runs

    if plan:
        group = read_group(runs, plan)
        rows = [(cell.key or _cell_name(cell), cell.key) for cell in group.cells]
        rows += [(f"{key} (makes targets)", key) for key in group.needed if key not in group.keys]
        unused = [key for key in group.superseded if (runs / key / "spec.yaml").exists()]
    else:
        rows, unused = [(run.key, run.key) for run in all_runs(runs)], []
    if not rows:
        raise UserError(
            f"there are no runs in {runs}; start some with `risbench matrix --preset quick`."
        )
    table = Table("run", "state", "step", "best on val, %", "note", box=None)
    for name, key in rows:
        there = bool(key) and (runs / key / "spec.yaml").exists()
        table.add_row(*_status_cells(name, RunDir(runs / key).status() if there else None))
    for key in unused:
        table.add_row(key, "unused", "", "", "superseded, so no table counts it")
    console.print(table)


def _cell_name(cell: Cell) -> str:
    return f"{cell.method} {cell.variant} {cell.strategy} {cell.dataset} seed {cell.seed}"


def _status_cells(name: str, its: RunStatus | None) -> list[str | Text]:
    if its is None:
        return [name, "planned", "", "", "not started yet"]
    best = "" if its.best is None or its.best < 0 else f"{100 * its.best:.2f}"
    # A reason is somebody's text and no markup.
    return [name, its.state, f"{its.step}/{its.steps or '?'}", best, Text(its.reason)]
