"""Options that several commands share, and the consoles that commands print to.

Flags and environment variables become `Places` and an `Execution` here, and nowhere below.
"""

import dataclasses
import functools
import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

import methods
from benchmark import launch, strategies, tracking
from benchmark.base.addresses import has_password, masked
from benchmark.base.errors import UserError, choose
from benchmark.base.pretrained import Source
from benchmark.base.texts import printable
from benchmark.data import datasets
from benchmark.launch.base import Launcher
from benchmark.runs.execution import DEVICES, Execution, Places
from benchmark.runs.preset import preset_names

# Tables need 100 columns, and without a terminal rich would assume 80.
WIDTH = None if sys.stdout.isatty() else 110


class Terminal(Console):
    """Prints text as text: no markup, no names of emoji, and no control characters."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as it is shown."""
        return super().render_str(printable(text), **options)


console = Terminal(width=WIDTH, markup=False, emoji=False)
errors = Terminal(stderr=True, highlight=False, markup=False, emoji=False)
RUNS = Path("runs")
OUT = Path("reports/out")
CLAIMS = "RISBENCH_CLAIMS"  # variable that names a folder with further claims


# --- single options -------------------------------------------------------------------


def _completes(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return a shell completion of comma-separated names."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last)]

    return complete


def run_keys(incomplete: str) -> list[str]:
    """Return the keys of runs that begin with `incomplete`, for completion in the shell."""
    folder = Path(os.environ.get("RISBENCH_RUNS", RUNS))
    return [path.parent.name for path in folder.glob(f"{incomplete}*/spec.yaml")]


def without_password(
    context: typer.Context, option: typer.CallbackParam, address: str | None
) -> str | None:
    """Return the address that an option gives.

    Everybody on a machine can read the command lines of its processes, and shells keep them.

    Raises:
        UserError: a password was typed on the command line.
    """
    source = context.get_parameter_source(option.name)
    if address and source.name == "COMMANDLINE" and has_password(address):
        flag, variable = option.opts[0], option.envvar
        raise UserError(
            f"{flag} {masked(address)} holds a password, which others can read on a command line:"
            f" set the environment variable {variable} to the address in place of {flag}, or leave"
            " the password of a PostgreSQL database to ~/.pgpass."
        )
    return address


def known(names: Callable[[], Iterable[str]], text: str) -> str:
    """Return the help text of an option, which ends with the names that are known."""
    return f"{text} Known: {', '.join(names())}."


def known_device(device: str) -> str:
    """Return the device that an option gives.

    A command that may run no network, such as `predict` with stored masks, refuses it, too.

    Raises:
        UserError: there is no device of this name.
    """
    return choose(device, DEVICES, "device")


def named(flag: str, names: Callable[[], Iterable[str]], text: str) -> Any:
    """Return an option whose values are known names.

    Args:
        flag: the option, such as `--methods`.
        names: gives the names. The help lists them and the shell completes them.
        text: the help text without the names.
    """
    return typer.Option(flag, help=known(names, text), autocompletion=_completes(names))


MethodsOption = Annotated[
    str | None, named("--methods", methods.names, "Planned methods to choose, comma-separated.")
]
StrategiesOption = Annotated[
    str | None,
    named("--strategies", strategies.names, "Planned strategies to choose, comma-separated."),
]
DatasetsOption = Annotated[
    str | None,
    named(
        "--datasets",
        datasets.names,
        "Planned data sets to choose, comma-separated, each as NAME or NAME:SPLIT_BY.",
    ),
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
RunsOption = Annotated[
    Path, typer.Option("--runs", envvar="RISBENCH_RUNS", help="Folder of the run directories.")
]
ImagesOption = Annotated[
    Path | None,
    typer.Option("--images", help="Folder of COCO's photographs (default: DATA/images/train2014)."),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of the data sets (default: data/refer).")
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for the reports.")]
TrackerOption = Annotated[
    str, named("--tracker", tracking.TRACKERS.names, "Tracker that shows the runs.")
]
UriOption = Annotated[
    str | None,
    typer.Option(
        "--uri",
        envvar="MLFLOW_TRACKING_URI",
        callback=without_password,
        help="Address of the tracking store (default: RUNS/mlflow.db).",
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        envvar="RISBENCH_STORAGE",
        callback=without_password,
        help="Optuna's storage (default: RUNS/optuna.db).",
    ),
]
LauncherOption = Annotated[
    str, named("--launcher", launch.LAUNCHERS.names, "Launcher that starts the jobs.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", callback=known_device, help="Device: auto, cpu or cuda.")
]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Threads of a network on a CPU.")]
RunArgument = Annotated[
    str,
    typer.Argument(help="A run: key, unique beginning, or folder.", autocompletion=run_keys),
]
RunsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUNS]...",
        help="Finished runs: keys or unique beginnings.",
        autocompletion=run_keys,
    ),
]


# --- groups of options ----------------------------------------------------------------


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups of options.

    Where a parameter of `command` is annotated with a dataclass, the command line gets one option
    for each field of it, and `command` gets the dataclass.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    groups = {}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if not dataclasses.is_dataclass(hint):
            parameters.append(parameter.replace(annotation=hint))
            continue
        groups[parameter.name] = hint
        # The module of the group may not evaluate its annotations.
        types = typing.get_type_hints(hint, include_extras=True)
        parameters += [
            parameter.replace(name=field.name, default=field.default, annotation=types[field.name])
            for field in dataclasses.fields(hint)
        ]

    @functools.wraps(command)
    def spread_out(**arguments: Any) -> None:
        for name, group in groups.items():
            fields = [field.name for field in dataclasses.fields(group)]
            arguments[name] = group(**{field: arguments.pop(field) for field in fields})
        command(**arguments)

    # Python wants parameters without a default first, wherever a group stood.
    parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
    spread_out.__signature__ = inspect.Signature(parameters)
    spread_out.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread_out


@dataclasses.dataclass(frozen=True)
class Axes:
    """Options that choose among planned cells.

    Each is a text of comma-separated values, or None where the option was not given.
    """

    methods: MethodsOption = None
    strategies: StrategiesOption = None
    datasets: DatasetsOption = None
    variants: Annotated[
        str | None, typer.Option("--variants", help="Planned variants to choose, comma-separated.")
    ] = None
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Planned seeds to choose, comma-separated.")
    ] = None

    def values(self) -> dict[str, list[Any] | None]:
        """Return axis -> chosen values, which are None where the option was not given.

        Raises:
            UserError: a seed is no whole number.
        """
        texts = dataclasses.asdict(self)
        seeds = numbers(texts.pop("seeds"), "--seeds")
        return {axis: names(text) for axis, text in texts.items()} | {"seeds": seeds}


@dataclasses.dataclass(frozen=True)
class Where:
    """Options that say where data, runs and starting weights lie."""

    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Folder of the data sets (default: the preset's, or the run's)."
        ),
    ] = None
    images: ImagesOption = None
    runs: RunsOption = RUNS
    pretrained: Annotated[
        Path | None,
        typer.Option(
            "--pretrained",
            envvar="RISBENCH_PRETRAINED",
            help="Folder of published encoder weights, in place of a download.",
        ),
    ] = None
    offline: Annotated[
        bool, typer.Option("--offline", help="Fetch nothing. Use local files and caches alone.")
    ] = False

    def places(self, **others: Any) -> Places:
        """Return where things lie.

        Args:
            others: fields of `Places` that no option gives, or that replace those that one gives.
        """
        folder = self.pretrained.resolve() if self.pretrained else None
        weights = Source(folder, self.offline or os.environ.get("HF_HUB_OFFLINE") == "1")
        fields = {"data": self.data, "images": self.images, "runs": self.runs, "weights": weights}
        return Places(**fields | others)


@dataclasses.dataclass(frozen=True)
class Running:
    """Options that say how a job works on a run. Its launcher writes them."""

    device: DeviceOption = "auto"
    threads: ThreadsOption = 1
    processes: Annotated[int, typer.Option(min=1, help="Processes that torchrun has started.")] = 1
    compile: Annotated[bool, typer.Option(help="Compile the passes of a step.")] = False
    checkpointing: Annotated[
        bool, typer.Option(help="Compute blocks again in the backward pass, for less memory.")
    ] = False
    workers: Annotated[int, typer.Option(min=0, help="Loader processes.")] = 0
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds between two resume points within an epoch.")
    ] = 60.0
    log_every: Annotated[int, typer.Option(min=1, help="Steps per line of metrics.")] = 10
    stall_seconds: Annotated[
        float, typer.Option(min=1, help="Seconds without a step before the run is started anew.")
    ] = 600.0

    def execution(self) -> Execution:
        """Return how runs are executed."""
        return Execution.of(**dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class Submission:
    """Options of commands that hand jobs to a launcher, show them in a tracker, and report."""

    launcher: LauncherOption = launch.DEFAULT
    sync: Annotated[
        bool, typer.Option(help="Project the runs into the tracker while they go on.")
    ] = True
    tracker: TrackerOption = tracking.DEFAULT
    uri: UriOption = None
    out: OutOption = OUT

    def started(self, slots: int) -> Launcher:
        """Return the launcher, which works on `slots` jobs at a time.

        Raises:
            UserError: there is no launcher of this name. The message lists the nearest names.
        """
        return launch.LAUNCHERS.get(self.launcher)(slots=slots)


# --- values of options ----------------------------------------------------------------


def names(text: str | None) -> list[str] | None:
    """Return the comma-separated names of an option, or None where it was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str | None, option: str) -> list[int] | None:
    """Return the comma-separated whole numbers of an option, or None where it was not given.

    Args:
        text: the value of the option.
        option: the name of the option, for the error message.

    Raises:
        UserError: one of the values is no whole number.
    """
    try:
        return None if text is None else [int(name) for name in names(text) or []]
    except ValueError:
        raise UserError(
            f"{option} takes whole numbers separated by commas, not '{text}'."
        ) from None
