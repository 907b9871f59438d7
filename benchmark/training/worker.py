"""One run, worked on in this process: its lock, its progress, and a true status in any case."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from benchmark.base.errors import Interrupted, Pruned, UserError
from benchmark.evaluation import metrics
from benchmark.runs.execution import Execution, Places
from benchmark.runs.resolve import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training.trainer import Trainer

OnSelected = Callable[[int, float], None]


def places_of(run: RunDir, places: Places) -> Places:
    """Return `places` with the data of a run: as given, or where the run found them last.

    Raises:
        UserError: no data are given, and the run has not seen any yet.
    """
    if places.data is not None:
        return places
    known = run.read_json("environment.json").get("data", {})
    if not known:
        raise UserError(f"run {run.key} has not seen its data yet: give their folder with --data.")
    images = places.images or Path(known["images"])
    return dataclasses.replace(places, data=Path(known["root"]), images=images)


def work(
    run: RunDir,
    opened: Opened,
    execution: Execution,
    console: Console,
    on_selected: OnSelected = lambda epoch, value: None,
) -> None:
    """Train and evaluate one planned run, or say that it is done.

    Args:
        opened: what the command has read of data and weights.
        on_selected: told every evaluated epoch and the value of the selection metric; may raise
            `Pruned`.

    Raises:
        Busy: another process works on the run.
        Pruned: `on_selected` did; the state is saved, and the run, marked as pruned, can go on from
            there.
        Interrupted: a stop was asked for; the state is saved.
        UserError: what the user can put right; the run is marked as failed with this reason.
    """
    if run.status().state == "done":
        console.print(f"{run.key} is done; see `risbench report` and `risbench ui`")
        return
    # torchrun's other processes take part; the first one keeps the directory.
    if os.environ.get("RANK", "0") != "0":
        Trainer(run.spec(), run, opened, execution).train()
        return
    with run.claim():
        try:
            _train(run, opened, execution, console, on_selected)
        except (Interrupted, KeyboardInterrupt):
            run.write_status("planned", **run.recorded_status().progress, message="interrupted")
            raise Interrupted(f"{run.key} is saved; the same command goes on from there") from None
        except Pruned:
            run.write_status("pruned", **run.recorded_status().progress)
            raise
        except UserError as error:
            run.fail(str(error))
            raise
        except torch.cuda.OutOfMemoryError:
            reason = "the GPU is out of memory: lower recipe.micro_batch (it is part of the run key) or use a larger GPU"
            run.fail(reason)
            raise UserError(f"{run.key}: {reason}.") from None
        except (RuntimeError, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
            # Not the user's doing: the traceback stays in the log, and the run is not a result.
            said = str(error).splitlines()[0] if str(error) else ""
            run.fail(f"{type(error).__name__}: {said}")
            raise
    _print_result(run, console)


def _train(
    run: RunDir, opened: Opened, execution: Execution, console: Console, on_selected: OnSelected
) -> None:
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(run.key, total=None)

        def on_progress(step: int, steps: int, message: str) -> None:
            description = f"{run.key}  {message}"
            progress.update(bar, completed=step, total=steps, description=description)

        Trainer(run.spec(), run, opened, execution).train(on_progress, on_selected)


def _print_result(run: RunDir, console: Console) -> None:
    """Print what may be judged of every reported split."""
    judged = [metric for metric in map(metrics.get, metrics.names()) if metric.judged]
    result = run.read_json("result.json")
    for split in run.spec().selection.report:
        values = [
            f"{metric.heading} {metric.factor * result[split][metric.name]:.2f}"
            for metric in judged
            if metric.name in result[split]
        ]
        console.print(f"{split:6} {'  '.join(values)}")
