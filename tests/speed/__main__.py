"""Commands that measure speed. They are no part of `risbench`."""

import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmark.base.errors import UserError
from benchmark.base.files import read_json
from benchmark.cli.app import guarded
from benchmark.cli.options import (
    DeviceOption,
    ThreadsOption,
    Where,
    console,
    names,
    numbers,
    spread,
)
from benchmark.evaluation import devices, inference
from benchmark.robustness.conditions import parse_condition
from benchmark.runs.opened import Opened, places_of
from benchmark.runs.rundir import find_run
from tests.speed.grouping import compare, show
from tests.speed.parts import part_names
from tests.speed.reports import measure
from tests.speed.reports import show as show_reports

PARTS = part_names()
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def about() -> None:
    """Measure the speed of this machine and of finished runs."""


@app.command()
@spread
def grouping(
    chosen: Annotated[
        list[str],
        typer.Argument(metavar="RUNS...", help="Finished runs: keys or unique beginnings."),
    ],
    where: Where,
    split: Annotated[str, typer.Option()] = "val",
    condition: Annotated[
        str, typer.Option(help="What the images go through, such as fog-3.")
    ] = "gaussian_noise-3",
    count: Annotated[int, typer.Option(min=1, help="Images of the split.")] = 48,
    threads: ThreadsOption = 1,
    device: DeviceOption = "auto",
) -> None:
    """Measure what grouping expressions by image saves against treating every one alone."""
    torch.set_num_threads(threads)
    corruption = parse_condition(condition)
    places = where.places()
    comparisons = {}
    for name in chosen:
        run = find_run(where.runs, name)
        network = inference.load(run, Opened(places_of(run, places)), device)
        comparisons[run.key] = compare(network, split, corruption, count)
    title = f"{count} images of {split} under {corruption}, {network.device}"
    show(comparisons, title, console)


@app.command()
def reports(
    counts: Annotated[
        str, typer.Option(help="Numbers of constructed finished runs, comma-separated.")
    ] = "100,300,1000",
) -> None:
    """Measure how the time of a report grows with the number of finished runs."""
    show_reports([*measure(numbers(counts, "--counts"))], console)


@app.command("sync")
def syncs(
    counts: Annotated[
        str, typer.Option(help="Numbers of constructed finished runs, comma-separated.")
    ] = "100,300",
) -> None:
    """Measure a first sync with MLflow, and one with nothing new."""
    # A machine that is borrowed for its GPU may have no MLflow.
    from tests.speed import sync

    sync.show([*sync.measure(numbers(counts, "--counts"))], console)


@app.command()
def parts(
    against: Annotated[str, typer.Option(help="The commit that this code is compared with.")],
    chosen: Annotated[
        str, typer.Option("--parts", help=f"Comma-separated (default: all): {', '.join(PARTS)}.")
    ] = "",
    methods: Annotated[
        str, typer.Option(help="Methods whose networks are timed (default: all).")
    ] = "",
    variants: Annotated[str, typer.Option(help="Sizes of these networks.")] = "tiny",
    counts: Annotated[
        str, typer.Option(help="Numbers of constructed finished runs, comma-separated.")
    ] = "100,300,1000",
    repeats: Annotated[int, typer.Option(min=1, help="Turns, each of both states.")] = 3,
    cores: Annotated[str, typer.Option(help="Numbers of cores, comma-separated.")] = "1,2",
    out: Annotated[Path | None, typer.Option(help="A file of the results, JSON.")] = None,
) -> None:
    """Compare the speed of this code with that of an older commit, in turns.

    What was measured is shown and written when the command is stopped, too.
    """
    from tests.speed import against as comparison

    # A command that is ended by others clears up, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found: list[comparison.Line] = []
    networks = (names(methods) or (), names(variants) or ())
    sizes, numbers_of_cores = numbers(counts, "--counts"), numbers(cores, "--cores")
    try:
        with console.status("checking out the older code") as status:
            for line in comparison.compare(
                against,
                names(chosen) or (),
                networks,
                sizes,
                repeats,
                numbers_of_cores,
                status.update,
            ):
                found.append(line)
                if out:
                    comparison.write(out, against, repeats, found)
    finally:
        if found:
            comparison.show(found, against, console)


@app.command()
def table(
    files: Annotated[list[Path], typer.Argument(help="Results of `parts`.")],
) -> None:
    """Print results of `parts` as one table in Markdown."""
    from tests.speed.against import markdown

    print(markdown(read_json(path) for path in files), end="")


@app.command()
def gpu(
    out: Annotated[Path, typer.Option(help="The file of the results, JSON.")],
    minutes: Annotated[float, typer.Option(help="Time in which all must be done.")] = 8.0,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Measure one row of each kind, with two steps.")
    ] = False,
    methods: Annotated[str, typer.Option(help="Methods, comma-separated (default: all).")] = "",
    strategies: Annotated[
        str, typer.Option(help="Strategies whose steps are measured, comma-separated.")
    ] = "baseline,maskris",
    card_file: Annotated[
        Path | None,
        typer.Option(
            help="The file of this card to write or to add to, which `risbench plan --card` reads."
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure what one GPU does with every network. No file and no network is needed."""
    from tests.speed import card_file as files
    from tests.speed.gpu import run

    kind = devices.pick_device(device).type
    if card_file and kind != "cuda":
        raise UserError("--card-file is about a GPU, and none is measured here: leave it out.")
    content = run(out, kind, minutes, smoke, console, names(methods) or (), names(strategies))
    if card_file:
        files.write(card_file, [content])


@app.command("card-file")
def card_files(
    measured: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help="Results of `gpu`, the newest last.")
    ],
    out: Annotated[Path, typer.Option(help="The file of the card to write or to add to.")],
) -> None:
    """Write what `gpu` measured into the file of its card, which `risbench plan --card` reads."""
    from tests.speed import card_file as files

    card = files.write(out, [read_json(path) for path in measured])
    console.print(f"{out} has {len(card.steps)} steps of one {card.card}.")


@app.command()
def networks(
    methods: Annotated[str, typer.Option(help="Methods, comma-separated (default: all).")] = "",
) -> None:
    """Count operations and parameters of the published networks, from which plans estimate."""
    from tests.speed import networks as counted

    for method, variants in counted.write(names=names(methods) or ())["networks"].items():
        for variant, its in variants.items():
            console.print(f"{method} {variant}: {its['gflops']} GFLOP, {its['parameters']:,}")


@app.command(hidden=True)
def gpu_rows(
    asked: Annotated[str, typer.Argument(help="The rows and how they are measured, JSON.")],
) -> None:
    """Measure some rows in this process, and print a line of JSON for each."""
    from tests.speed.gpu_rows import Bench, Row, measure

    content = json.loads(asked)
    bench = Bench(**content["bench"] | {"folder": Path(content["bench"]["folder"])})
    for row in content["rows"]:
        # The answers have the output to themselves, whatever a library prints.
        with contextlib.redirect_stdout(sys.stderr):
            values = measure(Row(**row), bench)
        print(json.dumps(values), flush=True)


if __name__ == "__main__":
    sys.exit(guarded(app))
