"""Options that several commands of `risbench` share, and the consoles they print to."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmark.base.errors import UserError

# Tables need 100 columns; where nobody looks at a terminal, 80 would be assumed.
WIDTH = None if sys.stdout.isatty() else 110
console, errors = Console(width=WIDTH), Console(stderr=True, highlight=False)
RUNS, OUT = Path("runs"), Path("reports/out")


def _set_folder(folder: Path | None) -> Path | None:
    # Through the environment: the libraries read theirs there, and worker processes inherit it.
    if folder is not None:
        os.environ["RISBENCH_PRETRAINED"] = str(folder.resolve())
    return folder


def _set_offline(offline: bool) -> bool:
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    return offline


RunsOption = Annotated[Path, typer.Option("--runs", envvar="RISBENCH_RUNS", help="Folder of the run directories.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder that holds refcoco/, refcoco+/, ... [preset's]")
]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder of the photographs [DATA/images/train2014].")
]
PresetOption = Annotated[str, typer.Option("--preset", help="A shipped preset or a YAML file.")]
MethodsOption = Annotated[str | None, typer.Option("--methods", help="Comma-separated; narrows the preset.")]
StrategiesOption = Annotated[str | None, typer.Option("--strategies", help="Comma-separated.")]
DatasetsOption = Annotated[
    str | None, typer.Option("--datasets", help="Comma-separated; refcocog:google splits RefCOCOg by google.")
]
VariantsOption = Annotated[str | None, typer.Option("--variants", help="Comma-separated.")]
SeedsOption = Annotated[str | None, typer.Option("--seeds", help="Comma-separated.")]
UriOption = Annotated[
    str | None, typer.Option("--uri", envvar="MLFLOW_TRACKING_URI", help="MLflow store [RUNS/mlflow.db].")
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for the tables.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
PretrainedOption = Annotated[
    Path | None,
    typer.Option(
        "--pretrained",
        envvar="RISBENCH_PRETRAINED",
        callback=_set_folder,
        help="Folder of published encoder weights, in place of a download.",
    ),
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", callback=_set_offline, help="Fetch nothing: local files and caches alone.")
]


def names(text: str | None) -> list[str] | None:
    """Return the comma-separated names of an option."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str | None, option: str = "--seeds") -> list[int] | None:
    """Return the comma-separated whole numbers of an option; anything else raises a UserError."""
    try:
        return None if text is None else [int(name) for name in names(text) or []]
    except ValueError:
        raise UserError(f"{option} takes whole numbers separated by commas, not '{text}'.") from None
