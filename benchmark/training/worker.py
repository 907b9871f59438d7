"""One run, worked on in this process: its lock, its progress line, and a true status whatever happens."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from benchmark.base.errors import Interrupted, Pruned, UserError
from benchmark.runs.execution import Execution, Place
from benchmark.runs.resolve import open_run
from benchmark.runs.rundir import RunDir, fail
from benchmark.training.trainer import Trainer


def place_of(run: RunDir, data: Path | None, images: Path | None) -> Place:
    """Return where a run's data lie: as given, or where it found them last; a UserError where neither is known."""
    known = run.read_json("environment.json").get("data", {})
    if data is None and not known:
        raise UserError(f"run {run.key} has not seen its data yet: give their folder with --data.")
    default_images = Path(known["images"]) if data is None else None
    return Place(data or Path(known["root"]), images or default_images)


def work(
    run: RunDir,
    place: Place,
    execution: Execution,
    console: Console,
    on_selected: Callable[[int, float], None] = lambda epoch, oiou: None,
) -> None:
    """Train and evaluate one planned run, or say that it is done.

    Args:
        on_selected: told every evaluated epoch and its oIoU; may raise `Pruned`.

    Raises:
        Pruned: `on_selected` did; the state is saved, and the run, marked as pruned, can go on from there.
        Interrupted: a stop was asked for; the state is saved.
        UserError: what the user can put right; the run is marked as failed with this reason.
    """
    if run.status()["state"] == "done":
        console.print(f"{run.key} is done; see `risbench report` and `risbench ui`")
        return
    if os.environ.get("RANK", "0") != "0":  # torchrun's other processes: the first one keeps the directory
        spec = run.spec()
        Trainer(spec, run, *open_run(spec, place), execution).train()
        return
    with run.claim():
        try:
            _train(run, place, execution, console, on_selected)
        except (Interrupted, KeyboardInterrupt):
            status = run.read_json("status.json")
            last = {name: status[name] for name in ("step", "steps", "best") if name in status}
            run.write_status("planned", **last, message="interrupted")
            raise Interrupted(f"{run.key} is saved; the same command goes on from there") from None
        except Pruned:
            status = run.read_json("status.json")
            run.write_status("pruned", **{name: status[name] for name in ("step", "steps", "best") if name in status})
            raise
        except UserError as error:
            fail(run, str(error))
            raise
        except torch.cuda.OutOfMemoryError:
            reason = (
                "the GPU is out of memory: lower recipe.micro_batch (it is part of the run key) or use a larger GPU"
            )
            fail(run, reason)
            raise UserError(f"{run.key}: {reason}.") from None
        except (RuntimeError, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
            # Not the user's doing: the traceback stays, the reason goes to the status, and the run is not a result.
            fail(run, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            raise
    result = run.read_json("result.json")
    for split in run.spec().selection.report:
        console.print(f"{split:6} oIoU {100 * result[split]['oiou']:.2f}  mIoU {100 * result[split]['miou']:.2f}")


def _train(
    run: RunDir, place: Place, execution: Execution, console: Console, on_selected: Callable[[int, float], None]
) -> None:
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(run.key, total=None)
        spec = run.spec()
        Trainer(spec, run, *open_run(spec, place), execution).train(
            lambda step, steps, message: progress.update(
                bar, completed=step, total=steps, description=f"{run.key}  {message}"
            ),
            on_selected,
        )
