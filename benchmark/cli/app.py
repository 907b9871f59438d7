"""risbench: the commands, and nothing else."""

import sys
from collections.abc import Callable

import typer

from benchmark.base.errors import Interrupted, UserError
from benchmark.cli import checkpoints as networks
from benchmark.cli import data, robustness, runs, store, studies
from benchmark.cli.options import errors

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Referring image segmentation methods with and without MaskRIS, under one data pipeline and one evaluator.",
)
for part in (runs, networks, robustness, store):
    app.add_typer(part.app)
app.add_typer(data.app, name="data")
app.add_typer(studies.app, name="study")


def guarded(command: Callable[[], None]) -> int:
    """Run a command; a user error becomes one sentence and exit code 1, Ctrl-C exit code 130."""
    try:
        command()
    except UserError as error:
        errors.print(f"[red]error:[/red] {error}", soft_wrap=True)
        return 1
    except (Interrupted, KeyboardInterrupt) as stop:
        errors.print(str(stop) or "stopped")
        return 130
    return 0


def main() -> None:
    """Entry point of the console script."""
    sys.exit(guarded(app))


if __name__ == "__main__":
    main()
