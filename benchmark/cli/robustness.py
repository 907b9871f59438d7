"""Commands that ask finished runs under corruptions, occlusion and covered words."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmark.base.errors import UserError
from benchmark.cli.options import (
    OUT,
    RUNS,
    DataOption,
    DeviceOption,
    ImagesOption,
    OutOption,
    RunsOption,
    UriOption,
    console,
    errors,
    names,
    numbers,
)

app = typer.Typer()


@app.command()
def robustness(
    chosen: Annotated[
        list[str] | None, typer.Argument(metavar="[RUNS]...", help="Finished runs [those of the preset's matrix].")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="quick, common, all, or a YAML file of conditions.")
    ] = "quick",
    corruptions: Annotated[
        str | None, typer.Option(help="Comma-separated names; common (15), maskris (17), all (19); none. [preset's]")
    ] = None,
    severities: Annotated[str | None, typer.Option(help="Comma-separated, 1 to 5. [preset's]")] = None,
    splits: Annotated[str | None, typer.Option(help="Comma-separated. [preset's]")] = None,
    occlusion: Annotated[bool, typer.Option(help="Also the preset's occlusion.")] = True,
    words: Annotated[bool, typer.Option(help="Also with words covered one by one.")] = True,
    reference: Annotated[str | None, typer.Option(help="Run whose errors corruption errors are divided by.")] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes that decode and corrupt ahead of the networks.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a network on a CPU.")] = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps corrupted images, losslessly.")] = None,
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    out: OutOption = OUT,
    sync: Annotated[bool, typer.Option(help="Project the results into MLflow.")] = True,
    uri: UriOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Ask finished runs under corruptions, occlusion and covered words; finished conditions are never asked again."""
    import torch

    from benchmark.robustness.conditions import narrow_robustness, read_robustness_preset
    from benchmark.robustness.run import evaluate_conditions

    narrowed = narrow_robustness(
        read_robustness_preset(preset),
        names(splits),
        names(corruptions),
        numbers(severities, "--severities"),
        occlusion,
        words,
    )
    asked = narrowed.conditions()
    torch.set_num_threads(threads)
    directories, place = _directories(chosen, narrowed.matrix, runs, data, images)
    declared = _reference(reference, runs, directories)
    console.print(f"{len(directories)} runs, {len(asked)} conditions on {', '.join(narrowed.splits)}")
    if asked:  # language subsets are those of records that are there
        try:
            meters = evaluate_conditions(
                directories, narrowed.splits, asked, place, console, jobs=jobs, device=device, cache=cache
            )
        finally:
            if sync:
                _sync(runs, uri)
        _show_costs(meters)
    name = Path(preset).stem if not chosen else "runs"
    _report(name, preset, narrowed, asked, directories, declared, place, runs, out, device)


def _directories(
    chosen: list[str] | None, matrix_name: str, runs: Path, data: Path | None, images: Path | None
) -> tuple[list[Any], Callable[[Any], Any]]:
    """Return the named runs, or the finished ones of a matrix, and where the data of each lie."""
    from benchmark.runs.preset import read_preset
    from benchmark.runs.resolve import resolve_preset
    from benchmark.runs.rundir import find_run
    from benchmark.training import worker

    if chosen:
        directories = {run.key: run for run in (find_run(runs, name) for name in chosen)}
        if len({run.path.resolve().parent for run in directories.values()}) > 1 or any(
            run.path.resolve().parent != runs.resolve() for run in directories.values()
        ):
            raise UserError("name runs of one folder and give that with --runs.")
        return [*directories.values()], lambda run: worker.place_of(run, data, images)
    with console.status("reading the data"):
        found = resolve_preset(matrix_name, read_preset(matrix_name), data, images)
    every = found.directories(runs)
    done = [run for run in every if run.status()["state"] == "done"]
    if not done:
        raise UserError(
            f"none of the {len(every)} runs of the matrix '{matrix_name}' is finished in {runs}: run `risbench matrix --preset"
            f" {matrix_name}` first, or name runs."
        )
    if len(done) < len(every):
        console.print(
            f"{len(every) - len(done)} of the {len(every)} runs of the matrix are not finished and are left out"
        )
    return done, lambda run: found.place


def _reference(name: str | None, runs: Path, directories: list[Any]) -> str | None:
    """Return the key of the declared reference, which is one of the runs."""
    from benchmark.runs.rundir import find_run

    if name is None:
        return None
    key = find_run(runs, name).key
    if key not in {run.key for run in directories}:
        raise UserError(f"the reference run {key} is not among the runs that are asked; name it, too.")
    return key


def _sync(runs: Path, uri: str | None) -> None:
    from benchmark.tracking import mlflow_store

    try:
        failed = mlflow_store.sync(runs, uri).failed
    except UserError as error:
        failed = {"the store": str(error)}
    for key, reason in failed.items():
        errors.print(f"MLflow did not take {key} ({reason}); nothing is lost: run `risbench sync` later.")


def _show_costs(meters: dict[str, Any]) -> None:
    """Print images and expressions per second of what was done now."""
    made = meters.pop("images")
    if not meters:
        console.print("every condition was asked before; no network ran")
        return
    parts = ("decode", "corrupt", "alter", "cache", "prepare")
    rates = [f"{name} {made.rate(name):.0f}" for name in parts if made.counts[name]]
    console.print(f"images/s of one process: {', '.join(rates)}")
    table = Table(box=None)
    table.add_column("run", no_wrap=True)
    for heading in ("encode,\nimages/s", "the rest,\nexpressions/s", "masks,\nexpressions/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for key, its in meters.items():
        # LAVT returns the image itself: no text-free part to speak of.
        encode = its.rate("encode") if its.each("encode") > 1e-5 else float("inf")
        cells = [
            "none" if rate == float("inf") else f"{rate:.0f}"
            for rate in (encode, its.rate("segment"), its.rate("mask"))
        ]
        table.add_row(key, *cells)
    console.print(table)


def _report(
    name: str,
    preset_name: str,
    preset: Any,
    asked: list,
    directories: list,
    reference: str | None,
    place: Any,
    runs: Path,
    out: Path,
    device: str,
) -> None:
    from benchmark.robustness.conditions import read_robustness_preset
    from reports import layout
    from reports.compare import collect
    from reports.robustness import report, strip, summary

    collected = collect([run.spec() for run in directories], runs)
    every = summary.gather(collected, runs, preset.splits, asked)
    table = summary.table(every, reference)
    for path in (out / name / "robustness").glob("*.*"):  # of an earlier report, perhaps on other runs
        path.unlink()
    said = preset.description if preset == read_robustness_preset(preset_name) and name != "runs" else ""
    said = said or f"{len(asked)} conditions on {', '.join(preset.splits)} of {len(directories)} runs"
    paths = report.write(name, said, every, table, reference, out)
    strips = strip.all_strips(every, table, runs, place, device)
    paths += layout.write_files(out / name / "robustness", strips)
    layout.print_blocks(console, report.terminal_blocks(every, table), [], min(console.width, 110))
    for path in paths:
        if path.suffix != ".pdf":
            console.print(f"wrote {path}")


@app.command()
def grouping(
    chosen: Annotated[list[str], typer.Argument(metavar="RUNS...", help="Finished runs: keys or unique beginnings.")],
    split: Annotated[str, typer.Option()] = "val",
    condition: Annotated[str, typer.Option(help="What the images go through, such as fog-3.")] = "gaussian_noise-3",
    count: Annotated[int, typer.Option("--count", min=1, help="Images of the split.")] = 48,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a network on a CPU.")] = 1,
    data: DataOption = None,
    images: ImagesOption = None,
    runs: RunsOption = RUNS,
    device: DeviceOption = "auto",
) -> None:
    """Measure what grouping expressions by image saves against a loop that treats every expression alone."""
    import torch

    from benchmark.robustness.conditions import parse_condition
    from benchmark.robustness.run import load_all
    from benchmark.runs.rundir import find_run
    from benchmark.training import worker
    from tests.speed import grouping

    torch.set_num_threads(threads)
    its = parse_condition(condition)
    found = load_all([find_run(runs, name) for name in chosen], lambda run: worker.place_of(run, data, images), device)
    compared = {key: grouping.compare(network, split, its, count) for key, network in found.items()}
    where = next(iter(found.values())).device
    grouping.show(compared, f"{count} images of {split} under {its}, {where}", console)
