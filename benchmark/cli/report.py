"""The command that writes a report again: of a preset's runs or of a study, from the run directories alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.base.errors import UserError
from benchmark.cli.options import (
    OUT,
    RUNS,
    DatasetsOption,
    MethodsOption,
    OutOption,
    RunsOption,
    SeedsOption,
    StrategiesOption,
    VariantsOption,
    console,
    names,
    numbers,
    places,
)

app = typer.Typer()


@app.command(rich_help_panel="Report")
def report(
    plan: Annotated[
        str, typer.Argument(help="A planned preset or study (see `risbench status`).")
    ] = "quick",
    methods: MethodsOption = None,
    strategies: StrategiesOption = None,
    datasets: DatasetsOption = None,
    variants: VariantsOption = None,
    seeds: SeedsOption = None,
    runs: RunsOption = RUNS,
    out: OutOption = OUT,
) -> None:
    """Write the tables and figures of a plan's finished runs and print them. It needs no data and no weights.

    Example: risbench report quick --methods lavt,caris
    """
    from benchmark.runs.groups import read_group

    if plan.endswith((".yaml", ".yml")):  # a preset's file, whose plan is called like it
        plan = Path(plan).stem
    group = read_group(runs, plan)
    if group.kind == "study":
        from benchmark.cli.study import write_study_report
        from studies import study

        write_study_report(study.load(runs, plan), runs, None, out)
        return
    chosen = {
        "method": names(methods),
        "strategy": names(strategies),
        "dataset": [name.partition(":")[0] for name in names(datasets) or []],
        "variant": names(variants),
        "seed": numbers(seeds),
    }
    cells = [
        cell
        for cell in group.cells
        if all(not values or getattr(cell, field) in values for field, values in chosen.items())
    ]
    if not cells:
        raise UserError(
            f"no cell of the plan '{plan}' fits these options: `risbench status {plan}` lists them."
        )
    write_group_report(plan, places(None, None, runs, out), cells)


def write_group_report(name: str, where: Any, cells: Sequence[Any]) -> None:
    """Write and print the report of a preset's plan about some of its cells."""
    from benchmark.runs.groups import read_group
    from reports import compare
    from reports.collected import collect
    from reports.matrix import report as matrix_report

    group = read_group(where.runs, name)
    wanted = {cell.identity for cell in cells}
    collected = collect(
        group, where.runs, [cell for cell in group.cells if cell.identity in wanted]
    )
    table = compare.comparison(collected)
    paths = matrix_report.write(collected, table, where.reports)
    matrix_report.render(console, collected, table)
    tell_written(paths)


def tell_written(paths: Sequence[Path]) -> None:
    """Name the files that a report consists of."""
    for path in paths:
        if path.suffix != ".pdf":
            console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
