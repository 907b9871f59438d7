"""The command that writes corrupted pictures, for networks outside of the suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from benchmark.base.errors import UserError
from benchmark.cli.kept import read_named
from benchmark.cli.options import DataOption, ImagesOption, console, names, numbers

app = typer.Typer(add_completion=False)


@app.command()
def images(
    out: Annotated[Path, typer.Argument(help="Folder for the pictures.")],
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help="Data set, as NAME or NAME:SPLIT_BY (default: that of the preset paper).",
        ),
    ] = None,
    splits: Annotated[str, typer.Option(help="Splits, comma-separated.")] = "val",
    corruptions: Annotated[
        str, typer.Option(help="Names or sets of names, comma-separated.")
    ] = "common",
    severities: Annotated[
        str, typer.Option(help="Severities from 1 to 5, comma-separated.")
    ] = "1,2,3,4,5",
    data: DataOption = None,
    photographs: ImagesOption = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make pictures.")] = 1,
) -> None:
    """Write the corrupted pictures of a data set, the same bits as in the suite's own evaluation.

    They lie in OUT/CONDITION/, as PNG under the names of the photographs. OUT/SPLIT.jsonl has the
    expressions that are to be predicted. Pictures that are there already are not made again. Masks
    that are predicted for them are scored with `risbench score --condition`.

    Example: risbench robustness images pictures --corruptions common --splits testA
    """
    from benchmark.robustness import corruptions as known
    from benchmark.robustness.corruptions import Condition
    from benchmark.robustness.pictures import picture_names, write_expressions, write_pictures
    from benchmark.runs.preset import read_preset

    levels = numbers(severities, "--severities") or []
    conditions = [
        Condition(name, level) for name in known.resolve(names(corruptions)) for level in levels
    ]
    if not conditions:
        raise UserError("name a corruption with --corruptions and a severity with --severities.")
    its = read_named(dataset or read_preset("paper").datasets[0], data, photographs)
    for split in names(splits):
        count = len(conditions) * len(picture_names(its, split))
        console.print(f"wrote {write_expressions(its, split, out)}", highlight=False)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task(f"corrupting {split}", total=count)
            too_small = write_pictures(
                its,
                split,
                conditions,
                out,
                workers,
                lambda made, progress=progress, bar=bar: progress.advance(bar, made),
            )
        console.print(
            f"{count - len(too_small)} pictures of {split} are in {out}",
            highlight=False,
            soft_wrap=True,
        )
        if too_small:
            more = f", and {len(too_small) - 1} more like it" if len(too_small) > 1 else ""
            console.print(f"not made: {too_small[0]}{more}", soft_wrap=True)
