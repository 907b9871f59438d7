"""What a matrix would do: states, steps, parameters, and a time estimated from a measured step."""

import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import methods
from benchmark.data.samples import TrainingSamples, training_batches
from benchmark.runs.resolve import Matrix, open_run
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from benchmark.training.trainer import Trainer

MEASURED_STEPS = 2


def seconds_per_step(trainer: Trainer) -> float:
    """Return the least time of a few training steps, the first one (which warms up) left out."""
    recipe, taken = trainer.spec.recipe, []
    steps = trainer.samples.order(0, recipe.batch_size, recipe.drop_last)[: MEASURED_STEPS + 1]
    trainer.network.train()
    for raws in training_batches(trainer.samples, 0, steps, recipe.micro_batch, 0, 1, 0):
        started = time.perf_counter()
        trainer.optimise(raws, 0)
        taken.append(time.perf_counter() - started)
    return min(taken[1:] or taken)


def duration(seconds: float) -> str:
    """Return seconds in words a person reads."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def show_plan(found: Matrix, runs: Path, measure: bool, console: Console) -> None:
    """Print the plan. The estimate covers training steps alone, not evaluation; done runs count nothing."""
    table = Table("run", "state", "steps", "parameters", "s/step", "training left", box=None)
    measured: dict[str, tuple[int, int, float | None]] = {}
    total = 0.0
    with tempfile.TemporaryDirectory() as folder, console.status("measuring a step of each network") as status:
        for spec, run in zip(found.specs, found.directories(runs), strict=True):
            group = f"{spec.method} {spec.variant} {spec.strategy.name} {spec.dataset}"
            if group not in measured:
                status.update(f"measuring {group}")
                measured[group] = _measure(spec, found, measure, Path(folder))
            steps, count, seconds = measured[group]
            state = run.status()
            left = 0 if state["state"] == "done" else steps - state.get("step", 0)
            total += left * (seconds or 0)
            table.add_row(
                spec.key,
                state["state"],
                f"{state.get('step', 0)}/{steps}",
                f"{count / 1e6:.2f} M",
                "-" if seconds is None else f"{seconds:.3f}",
                "-" if seconds is None else duration(left * seconds),
            )
    console.print(table)
    if measure:
        jobs = found.preset.jobs
        console.print(f"about {duration(total / jobs)} of training at {jobs} runs at a time, evaluation not counted")


def _measure(spec: RunSpec, found: Matrix, measure: bool, folder: Path) -> tuple[int, int, float | None]:
    """Return steps, parameters and, where asked for and the device is here, seconds per step."""
    execution = found.execution
    dataset, tokenizer = open_run(spec, found.place)
    with torch.device("meta"):
        method = methods.get(spec.method)(spec.network, tokenizer.size)
    recipe, count = spec.recipe, sum(parameter.numel() for parameter in method.parameters())
    samples = TrainingSamples(dataset, "train", method.needs, tokenizer, spec.seed)
    steps = len(samples.order(0, recipe.batch_size, recipe.drop_last)) * recipe.epochs
    if not measure or (execution.device == "cuda" and not torch.cuda.is_available()):
        return steps, count, None
    trainer = Trainer(spec, RunDir(folder / spec.key), dataset, tokenizer, execution, published_start=False)
    return steps, count, seconds_per_step(trainer)
