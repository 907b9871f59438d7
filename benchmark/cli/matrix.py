"""Commands on a whole preset: they show what it would run, and run it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from benchmark.base.errors import UserError
from benchmark.cli.jobs import conclude, work_through_runs
from benchmark.cli.options import (
    Axes,
    PlanOption,
    PresetOption,
    Submission,
    Where,
    console,
    names,
    spread,
)

if TYPE_CHECKING:  # Help must not import what runs need.
    from benchmark.planning.plan import Planned
    from benchmark.planning.power import Decidable
    from benchmark.runs.execution import Places
    from benchmark.runs.preset import Preset
    from benchmark.runs.resolve import Matrix

app = typer.Typer()
PANEL = "Run"


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The runs of a preset that the options of a command choose.

    Attributes:
        name: the name of the plan.
        text: the text of the preset's file.
        whole: the preset with everything that is planned.
        now: the preset, narrowed to what is to be run now.
    """

    name: str
    text: str
    whole: Preset
    now: Preset


def choose_runs(preset: str, name: str | None, axes: Axes) -> Chosen:
    """Return what is planned and what is to be run now.

    Args:
        preset: the name of a shipped preset, or a YAML file.
        name: the name of another plan, if any.
        axes: chooses among the planned cells. With a `name`, it gives the axes of the other plan.

    Raises:
        UserError: there is no such preset, or it does not plan a value of an axis.
    """
    from benchmark.runs.preset import narrow, parse_preset, preset_text, replaced

    text = preset_text(preset)
    whole = parse_preset(text, preset)
    if name:
        whole = replaced(whole, **axes.values())
        return Chosen(name, text, whole, whole)
    return Chosen(Path(preset).stem, text, whole, narrow(whole, **axes.values()))


def resolve(chosen: Chosen, places: Places) -> Matrix:
    """Return the specs of the chosen runs.

    Where `places` name no data, the folder is the preset's own, and embedded sets are written
    there.

    Raises:
        UserError: a name or metric is not known, a setting does not fit, or data are missing.
    """
    from benchmark.planning.preset_check import check_preset
    from benchmark.runs.resolve import resolve_preset

    check_preset(chosen.whole, chosen.name, places.data)
    there = dataclasses.replace(places, data=places.data or chosen.now.data)
    with console.status("reading the data"):
        return resolve_preset(chosen.name, chosen.now, there, write_embedded=places.data is None)


@app.command(rich_help_panel=PANEL)
@spread
def matrix(
    axes: Axes,
    where: Where,
    submission: Submission,
    preset: PresetOption = "quick",
    name: PlanOption = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Runs at a time (default: the preset's).")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes (GPUs) per run (default: the preset's).")
    ] = None,
) -> None:
    """Execute the planned runs that are not done yet, then write the tables.

    A failed run is reported at the end and does not stop the others.

    Example: risbench matrix --preset paper --seeds 0
    """
    from benchmark.cli.report import write_group_report
    from benchmark.runs.groups import read_group, write_plan

    chosen = choose_runs(preset, name, axes)
    resolved = resolve(chosen, where.places(reports=submission.out, tracking=submission.uri))
    group = write_plan(where.runs, resolved.group(chosen.whole, chosen.text))
    outcomes = work_through_runs(
        (*resolved.needed, *resolved.specs),
        resolved.places,
        resolved.execution.changed(processes=processes),
        submission,
        jobs or chosen.now.jobs,
    )

    def report() -> None:
        # Another matrix may have written to the plan meanwhile.
        current = read_group(where.runs, group.name)
        predictions = [cell for cell in current.cells if cell.name]
        write_group_report(current, resolved.places, [*resolved.cells, *predictions])

    conclude(outcomes, report)


@app.command(rich_help_panel=PANEL)
@spread
def plan(
    axes: Axes,
    where: Where,
    preset: PresetOption = "quick",
    name: PlanOption = None,
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Build each network and time a step of it (default: where none was timed here).",
        ),
    ] = None,
    detect: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Say how many seeds a true difference of so many points takes."
        ),
    ] = None,
    card: Annotated[
        str | None,
        typer.Option(
            help="Say what the runs cost on these cards instead, comma-separated: h100, a100, 4090,"
            " 3090 ... or JSON files."
        ),
    ] = None,
) -> None:
    """Show what a preset would run, what it costs, and what it can decide.

    The list has the state, steps and parameters of each run. Its time is estimated from a step
    that is measured. What it can decide is the smallest difference that the planned seeds find.
    With --card, it has the hours and the memory of each run on a card, which need not be here.

    Examples: risbench plan --preset paper --no-measure, risbench plan --preset paper --card 4090
    """
    from benchmark.base.files import free_bytes
    from benchmark.planning import plan as planning
    from benchmark.planning import power

    chosen = choose_runs(preset, name, axes)
    if card is not None:
        if detect:
            raise UserError("--detect is answered by a plan without --card: leave one of them out.")
        _show_cards(chosen, names(card) or [""], where.places())
        return
    resolved = resolve(chosen, where.places())
    with console.status("measuring a step of each network") as status:
        planned = planning.plan(
            resolved, measure, lambda network: status.update(f"measuring {network}")
        )
    is_measured = measure is not False
    console.print(_plan_table(planned, is_measured))
    if needed := len(resolved.needed):
        make = "makes" if needed == 1 else "make"
        console.print(f"The first {needed} {make} the targets that others are trained on.")
    at_a_time = chosen.now.jobs
    if is_measured and (seconds := planning.total_seconds(planned, at_a_time)) is not None:
        time = planning.duration(seconds)
        console.print(
            f"about {time} of training at {at_a_time} runs at a time, evaluation not counted"
        )
    if earlier := max((run.measured.age for run in planned if run.measured), default=0.0):
        console.print(
            f"Some steps were timed earlier, the first {planning.duration(earlier)} ago: --measure"
            " times all of them again."
        )
    if disk := planning.total_disk(planned, at_a_time):
        _print_disk(*disk, free_bytes(where.runs), at_a_time, where.runs)
    group = resolved.group(chosen.whole, chosen.text)
    wanted = detect / 100 if detect else None  # points to a fraction
    decided = power.decidable(group, resolved.specs, where.runs, wanted, planned)
    _print_power(decided, detect)


def _show_cards(chosen: Chosen, cards: Sequence[str], places: Places) -> None:
    """Print what the chosen runs cost on each of the cards."""
    from benchmark.cli.cards import show
    from benchmark.planning.by_card import on_card
    from benchmark.planning.cards import card
    from benchmark.planning.preset_check import check_preset
    from benchmark.runs.opened import Opened

    named = [card(name) for name in cards]
    check_preset(chosen.whole, chosen.name, places.data)
    opened = Opened(dataclasses.replace(places, data=places.data or chosen.now.data))
    for its in named:
        show(its, on_card(chosen.now, its, opened))


def _plan_table(planned: Sequence[Planned], measure: bool) -> Table:
    from benchmark.planning.plan import duration

    table = Table("run", "state", "steps", box=None)
    for heading in ("parameters", "s/step", "training left") if measure else ():
        table.add_column(heading, justify="right")
    for run in planned:
        cells = [run.spec.key, run.status.state, f"{run.status.step}/{run.steps}"]
        if measure:
            seconds = run.measured.seconds
            cells.append(f"{run.measured.parameters / 1e6:.2f} M")
            cells.append("-" if seconds is None else f"{seconds:.3f}")
            cells.append("-" if run.seconds_left is None else duration(run.seconds_left))
        table.add_row(*cells)
    return table


def _print_disk(kept: int, under_way: int, free: int, at_a_time: int, runs: Path) -> None:
    """Print what the runs that are left take of the disk, and whether it is there.

    Args:
        kept: the bytes that they keep.
        under_way: the bytes that the running ones take beyond that.
        free: the free bytes of the disk.
        at_a_time: how many run at a time.
        runs: the folder of the run directories.
    """
    if not kept:
        return
    lacking = kept + under_way - free
    console.print(
        f"about {kept / 1e9:.2f} GB of disk are kept, and {under_way / 1e9:.2f} GB more are taken"
        f" by the running ones ({at_a_time} at a time). {free / 1e9:.2f} GB are free in {runs}"
    )
    if lacking > 0:
        console.print(f"That is {lacking / 1e9:.2f} GB too little: make room before you start.")


def _print_power(found: Sequence[Decidable], detect: float | None) -> None:
    """Print the smallest difference that is decided, and the seeds that a wanted one takes."""
    from benchmark.evaluation.verdict import LEAST_PAIRS

    headings = ["method", "data set", "pairs", "s", "e", "from", "smallest difference"]
    table = Table(*headings, *([f"seeds for {detect:g}", "hours"] if detect else []), box=None)
    for its in found:
        few = f"none below {LEAST_PAIRS} pairs"
        cells = [f"{its.method} {its.variant}", its.dataset, str(its.pairs)]
        cells += [f"{100 * its.spread.seed_deviation:.2f}", f"{100 * its.spread.image_error:.2f}"]
        cells.append(its.spread.source)
        cells.append(few if math.isnan(its.difference) else f"{100 * its.difference:.2f}")
        if detect:
            cells.append("too few images" if its.seeds is None else str(its.seeds))
            cells.append("-" if its.hours is None else f"{its.hours:.3g}")
        table.add_row(*cells)
    if not found:
        console.print(
            "Nothing here can be judged: it takes a strategy to compare and a test split."
        )
        return
    console.print(table)
    console.print(
        "In points. s is the deviation between seed pairs, e the error from the images, and the"
        " smallest difference is what is found better or worse with 80 % power."
    )
    if sources := list(dict.fromkeys(its.hours_from for its in found if its.hours_from)):
        console.print(
            f"Hours are the training of these seeds with every strategy: {', '.join(sources)}."
        )
