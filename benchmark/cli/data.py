"""Commands about data sets."""

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.options import ImagesOption, console

app = typer.Typer(no_args_is_help=True, help="Look at data sets and write the embedded ones.")


@app.command("check")
def data_check(
    root: Annotated[Path, typer.Argument(help="Folder that holds refcoco/, refcoco+/, refcocog/ ...")],
    images: ImagesOption = None,
    full: Annotated[bool, typer.Option("--full", help="Decode every image, too.")] = False,
) -> None:
    """Compare a REFER folder with the known counts and name what is missing, damaged or different."""
    from benchmark.data import check

    if not check.render(check.check(root, images, full, console), console):
        raise typer.Exit(1)


@app.command("refshapes")
def data_refshapes(
    root: Annotated[Path, typer.Argument(help="Folder to write into.")],
    name: Annotated[str, typer.Option(help="refshapes, refshapes+ or refshapesg.")] = "refshapes",
    train: Annotated[int, typer.Option(min=1)] = 2000,
    val: Annotated[int, typer.Option(min=1)] = 200,
    test: Annotated[int, typer.Option(min=1, help="Images of testA and of testB.")] = 150,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Write an embedded data set in REFER's layout."""
    from benchmark.data.refshapes.writer import RefShapesSize, write_refshapes

    write_refshapes(root, name, RefShapesSize(train, val, test, test), seed)
    console.print(f"wrote {root / name}")
