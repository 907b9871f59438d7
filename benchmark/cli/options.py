"""Options that several commands share, what they make of them, and the consoles they print to.

Here, and nowhere below, flags and environment become `Places` and an `Execution`.
"""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import methods
from benchmark import strategies
from benchmark.base.errors import UserError
from benchmark.base.pretrained import Source
from benchmark.data import datasets
from benchmark.runs.execution import Places
from benchmark.runs.preset import preset_names

# Tables need 100 columns; where nobody looks at a terminal, 80 would be assumed.
WIDTH = None if sys.stdout.isatty() else 110
console, errors = Console(width=WIDTH), Console(stderr=True, highlight=False)
RUNS, OUT = Path("runs"), Path("reports/out")
DATA = Path("data/refer")  # where a command looks that has no preset to say it


def _completes(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return a shell completion of comma-separated names."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last)]

    return complete


def _runs(incomplete: str) -> list[str]:
    folder = Path(os.environ.get("RISBENCH_RUNS", RUNS))
    return [path.parent.name for path in folder.glob(f"{incomplete}*/spec.yaml")]


def known(names: Callable[[], Iterable[str]], text: str) -> str:
    """Return a help text that ends with the names that are known."""
    return f"{text} Known: {', '.join(names())}."


RunsOption = Annotated[
    Path, typer.Option("--runs", envvar="RISBENCH_RUNS", help="Folder of the run directories.")
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Folder that holds refcoco/, refcoco+/, ... [preset's]"),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option("--images", help="Folder of the photographs [DATA/images/train2014]."),
]
PresetOption = Annotated[
    str,
    typer.Option(
        "--preset", help="A shipped preset or a YAML file.", autocompletion=_completes(preset_names)
    ),
]
PlanOption = Annotated[
    str | None,
    typer.Option("--name", help="Plan these runs as a group of their own, with axes of its own."),
]
MethodsOption = Annotated[
    str | None,
    typer.Option(
        "--methods",
        help=known(methods.names, "Which planned methods, comma-separated."),
        autocompletion=_completes(methods.names),
    ),
]
StrategiesOption = Annotated[
    str | None,
    typer.Option(
        "--strategies",
        help=known(strategies.names, "Which planned strategies, comma-separated."),
        autocompletion=_completes(strategies.names),
    ),
]
DatasetsOption = Annotated[
    str | None,
    typer.Option(
        "--datasets",
        help=known(
            datasets.names,
            "Which planned data sets, comma-separated; refcocog:google splits by google.",
        ),
        autocompletion=_completes(datasets.names),
    ),
]
VariantsOption = Annotated[
    str | None, typer.Option("--variants", help="Which planned variants, comma-separated.")
]
SeedsOption = Annotated[
    str | None, typer.Option("--seeds", help="Which planned seeds, comma-separated.")
]
UriOption = Annotated[
    str | None,
    typer.Option("--uri", envvar="MLFLOW_TRACKING_URI", help="MLflow store [RUNS/mlflow.db]."),
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for the reports.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
PretrainedOption = Annotated[
    Path | None,
    typer.Option(
        "--pretrained",
        envvar="RISBENCH_PRETRAINED",
        help="Folder of published encoder weights, in place of a download.",
    ),
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Fetch nothing: local files and caches alone.")
]
LauncherOption = Annotated[str, typer.Option("--launcher", help="What starts the jobs.")]
JobsOption = Annotated[int | None, typer.Option("--jobs", min=1, help="Runs at a time [preset's].")]
SyncOption = Annotated[bool, typer.Option(help="Project the runs into MLflow while they go on.")]
RunArgument = Annotated[
    str,
    typer.Argument(help="A run: key, unique beginning, or folder.", autocompletion=_runs),
]
RunsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUNS]...", help="Finished runs: keys or unique beginnings.", autocompletion=_runs
    ),
]


def source(pretrained: Path | None, offline: bool) -> Source:
    """Return where published weights are looked for."""
    folder = pretrained.resolve() if pretrained else None
    return Source(folder, offline or os.environ.get("HF_HUB_OFFLINE") == "1")


def places(
    data: Path | None,
    images: Path | None,
    runs: Path,
    out: Path = OUT,
    uri: str | None = None,
    pretrained: Path | None = None,
    offline: bool = False,
) -> Places:
    """Return where things lie, as the options say it."""
    return Places(data, images, runs, out, uri, source(pretrained, offline))


def names(text: str | None) -> list[str] | None:
    """Return the comma-separated names of an option."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str | None, option: str = "--seeds") -> list[int] | None:
    """Return the comma-separated whole numbers of an option; anything else raises a UserError."""
    try:
        return None if text is None else [int(name) for name in names(text) or []]
    except ValueError:
        raise UserError(
            f"{option} takes whole numbers separated by commas, not '{text}'."
        ) from None
