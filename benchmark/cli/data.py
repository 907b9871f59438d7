"""Commands that check data sets and write the embedded ones."""

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.options import ImagesOption, console, known
from benchmark.data import datasets

app = typer.Typer(no_args_is_help=True, help="Check data sets and write the embedded ones.")


def _embedded() -> list[str]:
    return [name for name, dataset in datasets.DATASETS.items() if dataset.write]


@app.command("check")
def check_data(
    root: Annotated[
        Path, typer.Argument(help="Folder that holds refcoco/, refcoco+/, refcocog/ ...")
    ],
    images: ImagesOption = None,
    full: Annotated[bool, typer.Option("--full", help="Decode every image, too.")] = False,
) -> None:
    """Compare a REFER folder with the known counts.

    The command names what is missing, damaged or different, and ends with exit code 1 if anything
    is.

    Example: risbench data check /data/refer --images /data/coco/train2014
    """
    from benchmark.data import check

    if not check.render(check.check(root, images, full, console), console):
        raise typer.Exit(1)


@app.command()
def write(
    root: Annotated[Path, typer.Argument(help="Folder to write into.")],
    name: Annotated[
        str | None,
        typer.Option(help=known(_embedded, "Embedded set to write (default: the first).")),
    ] = None,
    train: Annotated[int, typer.Option(min=1, help="Images of train.")] = 2000,
    val: Annotated[int, typer.Option(min=1, help="Images of val.")] = 200,
    test: Annotated[int, typer.Option(min=1, help="Images of testA and of testB.")] = 150,
    seed: Annotated[int, typer.Option(help="Seed of the scenes.")] = 0,
) -> None:
    """Write an embedded data set in REFER's layout.

    Example: risbench data write data/mine --train 500
    """
    from benchmark.base.errors import choose

    name = choose(name, _embedded(), "embedded data set") if name else _embedded()[0]
    dataset = datasets.get(name)
    dataset.write(root, {"train": train, "val": val, "testA": test, "testB": test}, seed)
    console.print(f"wrote {root / name}")
