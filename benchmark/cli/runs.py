"""Commands on single runs: they make one, go on with one, and say how far runs are."""

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

if TYPE_CHECKING:  # Help must not import what runs need.
    from benchmark.runs.groups import Cell
    from benchmark.runs.status import RunStatus

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
@spread
def run(
    where: Where,
    method: Annotated[
        str | None, typer.Option(help="Method (default: the preset's first).")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="Strategy (default: the preset's first).")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Data set (default: the preset's first).")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Variant (default: the preset's first).")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed (default: the preset's first).")] = None,
    pseudo_masks: Annotated[
        str | None,
        typer.Option(
            help="Run whose pseudo masks are the targets, for a method that is trained on them."
        ),
    ] = None,
    preset: PresetOption = "quick",
) -> None:
    """Train and evaluate one run in this process.

    Started again, the command goes on from where the run was.

    Example: risbench run --seed 1
    """
    from benchmark.runs.preset import read_preset, replaced
    from benchmark.runs.rundir import RunDir, find_run
    from benchmark.training import worker

    whole = read_preset(preset)
    single = replaced(
        whole,
        methods=[method or whole.methods[0]],
        strategies=[strategy or whole.strategies[0]],
        datasets=[dataset or whole.datasets[0]],
        variants=[variant or whole.variants[0]],
        seeds=[whole.seeds[0] if seed is None else seed],
    )
    if pseudo_masks:
        name = single.methods[0]
        made_by = {"pseudo_masks": find_run(where.runs, pseudo_masks).key}
        recipes = {**single.recipes, name: single.recipes.get(name, {}) | made_by}
        single = single.model_copy(update={"recipes": recipes})
    resolved = resolve(Chosen("run", "", single, single), where.places())
    for spec in resolved.needed:
        if not (where.runs / spec.key / "pseudo.json").exists():
            raise UserError(
                f"this run is trained on the pseudo masks of {spec.key}, which are not there:"
                " make them first with `risbench matrix`, or name another run with --pseudo-masks."
            )
    directory = RunDir(where.runs / resolved.specs[0].key)
    directory.create(resolved.specs[0])
    worker.work(directory, resolved.opened, resolved.execution, console)


@app.command(rich_help_panel=PANEL)
@spread
def resume(key: RunArgument, where: Where, running: Running) -> None:
    """Go on with one planned or interrupted run in this process.

    It does not matter which plan the run belongs to.

    Example: risbench resume RUN
    """
    from benchmark.runs.opened import Opened, places_of
    from benchmark.runs.rundir import find_run
    from benchmark.training import worker

    directory = find_run(where.runs, key)
    places = places_of(directory, where.places())
    worker.work(directory, Opened(places), running.execution(), console)


@app.command(rich_help_panel=PANEL)
def status(
    plan: Annotated[
        str | None, typer.Argument(help="A planned preset or study (default: all runs).")
    ] = None,
    runs: RunsOption = RUNS,
) -> None:
    """List runs and how far they are.

    With the name of a plan, the list has every planned cell of that preset or study.

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
            f"there are no runs in {runs}: start some with `risbench matrix --preset quick`."
        )
    table = Table("run", "state", "step", "best on val, %", "note", box=None)
    for name, key in rows:
        begun = bool(key) and (runs / key / "spec.yaml").exists()
        table.add_row(*_status_cells(name, RunDir(runs / key).checked_status() if begun else None))
    for key in unused:
        table.add_row(key, "unused", "", "", "superseded, so no table counts it")
    console.print(table)


def _cell_name(cell: Cell) -> str:
    return f"{cell.method} {cell.variant} {cell.strategy} {cell.dataset} seed {cell.seed}"


def _status_cells(name: str, status: RunStatus | None) -> list[str | Text]:
    """Return a row of the list. The status is None where the run has no directory yet."""
    if status is None:
        return [name, "planned", "", "", "not started yet"]
    # The selection metric is -1 before the first evaluation.
    best = "" if status.best is None or status.best < 0 else f"{100 * status.best:.2f}"
    steps = f"{status.step}/{status.steps or '?'}"
    if status.state == "done" and not status.steps:
        steps = ""  # Predictions that were made elsewhere took none.
    # The reason is no markup, and may quote something that looks like it.
    return [name, status.state, steps, best, status.reason]
