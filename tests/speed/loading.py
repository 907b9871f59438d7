"""What it takes to make the training samples of an epoch: `python -m tests.speed.loading`.

The images are drawn anew in a temporary folder. Times are CPU time of this process, and each line
of the output is a JSON object.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

import methods
from benchmark.cli.app import guarded
from benchmark.data import datasets
from benchmark.data.samples import TrainingSamples, training_batches
from benchmark.runs.execution import Places
from benchmark.runs.opened import Opened

DATA, METHOD, VARIANT = "refshapes", "lavt", "small"
IMAGES, BATCH = 64, 16

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def loading(
    repeats: Annotated[int, typer.Option(min=1, help="Repetitions of an epoch.")] = 3,
) -> None:
    """Measure an epoch without and with the images in memory, a line of JSON for each."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"train": IMAGES, "val": 1, "testA": 1, "testB": 1}
        datasets.get(DATA).write(Path(folder), sizes, 0)
        opened = Opened(Places(Path(folder)))
        dataset = opened.dataset(DATA, "unc")
        definition = methods.definition(METHOD)
        config = definition.variants[VARIANT]
        tokenizer = opened.tokenizer(definition, config, dataset)
        # On this device a network has shapes and no weights, and only what it needs is asked.
        with torch.device("meta"):
            needs = methods.get(METHOD)(config, tokenizer.size).needs
        for cached in (False, True):
            samples = TrainingSamples(dataset, "train", needs, tokenizer, 0)
            # Code before the memory had a module of its own looks at this alone.
            samples.cached = cached
            if not cached and hasattr(samples, "memory"):
                samples.memory.close()
            seconds = [_epoch(samples, number) for number in range(repeats + 1)][1:]
            name = "in memory" if cached else "from files"
            print(json.dumps({"part": f"loading {name}", "median": statistics.median(seconds)}))


def _epoch(samples: TrainingSamples, epoch: int) -> float:
    """Return the CPU seconds of making all batches of an epoch."""
    order = samples.order(epoch, BATCH, False)
    started = time.process_time()
    for _ in training_batches(samples, epoch, order, BATCH, 0, 1, 0):
        pass
    return time.process_time() - started


if __name__ == "__main__":
    sys.exit(guarded(app))
