"""The program `risbench` groups the commands by what they are for, and decides how they end."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import typer
from rich.text import Text

from benchmark.base.errors import Interrupted, UserError, WorldError
from benchmark.base.registry import PLUGINS, plugin_files
from benchmark.base.texts import printable
from benchmark.cli import (
    checkpoints,
    claims,
    data,
    evaluate,
    examples,
    matrix,
    report,
    robustness,
    runs,
    score,
    store,
    study,
)
from benchmark.cli.options import errors

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train and compare referring image segmentation methods with and without training"
    " strategies such as MaskRIS, under one data pipeline and one evaluator.",
)
for part in (matrix, runs, report, examples, robustness, evaluate, score, checkpoints, store):
    app.add_typer(part.app)
app.add_typer(claims.app, name="claims", rich_help_panel="Report")
app.add_typer(study.app, name="study", rich_help_panel="Studies")
app.add_typer(data.app, name="data", rich_help_panel="Data")


@app.callback()
def _every_command() -> None:
    # Children work in other folders, so the plugin files that they inherit need absolute paths.
    if plugin_files():
        os.environ[PLUGINS] = os.pathsep.join(str(Path(file).resolve()) for file in plugin_files())


def guarded(command: Callable[[], None]) -> int:
    """Run a command and return its exit code.

    Returns:
        0 for success, 2 for a user error, 1 for what is wrong outside of the call, and 130 for
        Ctrl-C. An error is printed as one sentence.
    """
    try:
        command()
    except UserError as error:
        said = printable(f" {error}")
        errors.print(Text.assemble(("error:", "red"), said), soft_wrap=True)
        return 1 if isinstance(error, WorldError) else 2
    except (Interrupted, KeyboardInterrupt) as stop:
        errors.print(str(stop) or "stopped")
        return 130
    return 0


def main() -> None:
    """Run the command that the command line names. This is the entry point of the script."""
    sys.exit(guarded(app))
