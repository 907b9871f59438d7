"""Work on one run in this process, with its lock, its progress, and a true status in the end."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator

import torch
from rich.console import Console
from rich.progress import Progress

from benchmark.base.errors import Interrupted, Pruned, UserError
from benchmark.evaluation import metrics
from benchmark.evaluation.devices import describe_choice, pick_device
from benchmark.runs import integrity
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training import resume_point
from benchmark.training.stall import FIRST, StallWatch, is_retried, retry_or_fail
from benchmark.training.start import Stop
from benchmark.training.trainer import Trainer

OnSelected = Callable[[int, float], None]


def work(
    run: RunDir,
    opened: Opened,
    execution: Execution,
    console: Console,
    on_selected: OnSelected = lambda epoch, value: None,
) -> None:
    """Train and evaluate one planned run, or say that it is done.

    Where another process works on the run, this one waits for it and then looks again.

    Args:
        run: the directory of the run.
        opened: the data sets and tokenizers that the command has read.
        execution: how the run is executed.
        console: the console to print on.
        on_selected: called with each evaluated epoch and its selection metric, also those of a
            run that is done. It may raise `Pruned`.

    Raises:
        Busy: another process works on the run, for which several processes (DDP) do not wait.
        Pruned: `on_selected` raised it. The state is saved, and the run is marked as pruned and
            can go on from there.
        Interrupted: a stop was asked for. The state is saved.
        UserError: the user can put something right. The run is marked as failed with this reason.
    """
    if is_retried() and run.recorded_status().state == "failed":
        # torchrun starts all processes anew whatever they ended of, and a stall alone is retried.
        raise UserError(f"{run.key} failed: {run.recorded_status().reason}")
    # With torchrun, every process takes part in the training, and the first keeps the directory.
    if os.environ.get("RANK", "0") != "0":
        # It waits for the preparation of the first process, which is watched there.
        with _watched(run, execution, first=math.inf) as watch:
            trainer = Trainer(run.spec(), run, opened, execution)
            _tell(trainer, watch)
            trainer.train()
        return
    is_alone = os.environ.get("WORLD_SIZE", "1") == "1"
    stop = Stop()
    with run.claim(console.print if is_alone else None), stop.heeded(at_once=True):
        if run.checked_status(integrity.PATTERNS).state == "done":
            resume_point.remove(run)  # A kill may have left it.
            console.print(f"{run.key} is done: see `risbench report` and `risbench ui`")
            selection = run.spec().selection
            for epoch, value in run.epoch_values(selection.split, selection.metric).items():
                on_selected(epoch, value)
            return
        try:
            _train_or_fail(run, opened, execution, console, on_selected, stop)
        except (Interrupted, KeyboardInterrupt):
            stop.at_once = False
            run.write_status("planned", **run.recorded_status().progress, message="interrupted")
            raise Interrupted(f"{run.key} is saved: the same command goes on from there") from None
    _print_result(run, console)


def _train_or_fail(
    run: RunDir,
    opened: Opened,
    execution: Execution,
    console: Console,
    on_selected: OnSelected,
    stop: Stop,
) -> None:
    """Train a run, and note why it failed or was pruned."""
    try:
        _train(run, opened, execution, console, on_selected, stop)
    except Pruned:
        run.write_status("pruned", **run.recorded_status().progress)
        raise
    except UserError as error:
        run.fail(str(error))
        raise
    except torch.cuda.OutOfMemoryError:
        reason = (
            "the GPU is out of memory: lower recipe.micro_batch (it is part of the run key)"
            " or use a larger GPU"
        )
        run.fail(reason)
        raise UserError(f"{run.key}: {reason}.") from None
    except (RuntimeError, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        if execution.numerics.processes > 1 and _is_asked(stop):
            # The connection broke because another process was asked to stop, too, and has ended.
            raise Interrupted from None
        # This is an error of the code or the machine, so the log gets the whole traceback.
        message = str(error).splitlines()[0] if str(error) else ""
        run.fail(f"{type(error).__name__}: {message}")
        raise


def _is_asked(stop: Stop, seconds: float = 1.0) -> bool:
    """Return whether a signal has come, or comes in a moment, as it comes to all processes."""
    stop.at_once = False
    time.sleep(seconds)
    return stop.asked


def _train(
    run: RunDir,
    opened: Opened,
    execution: Execution,
    console: Console,
    on_selected: OnSelected,
    stop: Stop,
) -> None:
    """Train a run, and show a progress bar where the console is a terminal."""
    device = execution.numerics.device
    if choice := describe_choice(device, pick_device(device)):
        console.print(choice, highlight=False, markup=False)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(run.key, total=None)

        def on_progress(step: int, steps: int, message: str) -> None:
            description = f"{run.key}  {message}"
            progress.update(bar, completed=step, total=steps, description=description)

        with _watched(run, execution) as watch:
            trainer = Trainer(run.spec(), run, opened, execution)
            _tell(trainer, watch)
            trainer.train(on_progress, on_selected, stop)


@contextlib.contextmanager
def _watched(run: RunDir, execution: Execution, first: float = FIRST) -> Iterator[StallWatch]:
    """Start this process anew where the training makes no step for too long."""
    least = execution.how.stall_seconds
    watch = StallWatch(least, lambda seconds: retry_or_fail(run, seconds), first)
    with watch.watching():
        yield watch


def _tell(trainer: Trainer, watch: StallWatch) -> None:
    """Let a watch hear of what a training does."""
    trainer.on_sign = watch.sign
    trainer.on_preparing = watch.prepare


def _print_result(run: RunDir, console: Console) -> None:
    """Print the metrics that may be judged, for every reported split."""
    judged = [metric for metric in map(metrics.get, metrics.names()) if metric.judged]
    result = run.read_json("result.json")
    for split in run.spec().selection.report:
        values = [
            f"{metric.heading} {metric.factor * result[split][metric.name]:.2f}"
            for metric in judged
            if metric.name in result[split]
        ]
        console.print(f"{split:6} {'  '.join(values)}")
