"""What is measured of a GPU, one row at a time, in a process that may die without harm.

Every row goes through the functions that `risbench train` uses. The weights are random and the
scenes are those of RefShapes, for which no file and no network connection is needed.
"""

import collections
import dataclasses
import gc
import itertools
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from torch.utils.flop_counter import FlopCounterMode

import methods
from benchmark import strategies
from benchmark.base.pretrained import Source
from benchmark.data import datasets, tokenizers
from benchmark.data.samples import RawBatch, TrainingSamples, training_batches
from benchmark.evaluation import masks
from benchmark.runs.execution import Execution, Places
from benchmark.runs.opened import Opened
from benchmark.runs.resolve import changed_recipe
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec, Selection
from benchmark.training import pseudo_masks
from benchmark.training.costs import peak_bytes
from benchmark.training.trainer import Trainer
from methods.precision import set_float32

DATA = "refshapes"
PSEUDO = "annotated"  # the run whose pseudo masks are the annotated ones
# Largest relative difference between the loss on the card and on the CPU in fp32. A rounded product
# keeps 10 bits of its factors in TF32 and fp16, and 7 in bf16.
TOLERANCES = {"fp32": 1e-4, "tf32": 5e-3, "fp16": 5e-3, "bf16": 3e-2}
WARM_UP = 2
QUEUED = 2  # steps that are given to the device before their numbers are fetched


@dataclasses.dataclass(frozen=True)
class Row:
    """One thing to measure.

    Attributes:
        kind: a name in `KINDS`.
        method: the registered name of the method, or nothing for the card itself.
        variant: the size of the method.
        strategy: the registered name of the strategy.
        mode: a precision, or `published` for that of the recipe.
        switch: an execution setting that is true, `compile` or `checkpointing`, or nothing.
    """

    kind: str
    method: str = ""
    variant: str = ""
    strategy: str = ""
    mode: str = ""
    switch: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, dataclasses.astuple(self)))


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where and how long rows are measured.

    Attributes:
        folder: what `prepare` has filled.
        device: `cpu` or `cuda`.
        steps: number of timed steps.
        large: whether the products and copies have the size that a GPU needs.
    """

    folder: Path
    device: str
    steps: int
    large: bool = True

    def opened(self) -> Opened:
        """Return the prepared data, with a vocabulary that has the published number of pieces."""
        source = Source(self.folder / "pretrained", offline=True)
        return Opened(Places(self.folder / "data", runs=self.folder / "runs", weights=source))


def prepare(folder: Path, train: int, val: int) -> None:
    """Write the scenes, a vocabulary of BERT's size, and pseudo masks.

    Args:
        folder: is filled.
        train: number of images to train on.
        val: number of images to evaluate.
    """
    sizes = {"train": train, "val": val, "testA": 1, "testB": 1}
    datasets.get(DATA).write(folder / "data", sizes, 0)
    dataset = datasets.read(DATA, datasets.get(DATA).split_by, folder / "data", None)
    refs = dataset.refs_of("train")
    words = {word for ref in refs for its in ref.sentences for word in its.sent.lower().split()}
    pieces = ["[PAD]", *(f"[unused{number}]" for number in range(99)), *tokenizers.BERT_SPECIAL[1:]]
    pieces += sorted(words)
    missing = tokenizers.PUBLISHED_BERT_SIZE - len(pieces)
    pieces += [f"[unused{number}]" for number in range(99, 99 + missing)]
    vocabulary = folder / "pretrained" / "bert-base-uncased" / "vocab.txt"
    vocabulary.parent.mkdir(parents=True)
    vocabulary.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    annotated = RunDir(folder / "runs" / PSEUDO)
    codes = {ref.ref_id: masks.encode(dataset.target(ref)) for ref in refs}
    annotated.write_json(pseudo_masks.FILE, codes)


def spec_of(row: Row, opened: Opened, batch_size: int | None = None) -> RunSpec:
    """Return the spec of a row's network and training.

    Args:
        row: names them.
        opened: the prepared data.
        batch_size: samples of a step, or None for those of the recipe.
    """
    definition = methods.definition(row.method)
    split_by = datasets.get(DATA).split_by
    dataset = opened.dataset(DATA, split_by)
    config = definition.config_for(row.variant, DATA)
    recipe = definition.recipes[row.variant]
    changes: dict[str, Any] = {"precision": row.mode}
    if row.mode == "published":
        # A tiny network is compared in the precision of the large one, which it stands for.
        source = "paper" if row.kind == "equality" else row.variant
        changes["precision"] = definition.recipes[source].precision
    if batch_size:
        changes |= {"batch_size": batch_size, "micro_batch": batch_size}
    if definition.targets_from:
        changes["pseudo_masks"] = PSEUDO
    recipe = changed_recipe(definition, recipe, changes)
    return RunSpec(
        method=row.method,
        variant=row.variant,
        dataset=DATA,
        split_by=split_by,
        seed=0,
        strategy=strategies.get(row.strategy),
        recipe=recipe,
        network=config,
        selection=Selection(metric="oiou", report=("val",)),
        data_sha256=dataset.digest(),
        tokenizer=opened.tokenizer(definition, config, dataset).identity(),
        weights="random",
        method_revision=definition.revision(row.variant, recipe.precision),
    )


def trainer_of(
    row: Row, bench: Bench, batch_size: int | None = None, device: str | None = None
) -> Trainer:
    """Return a trainer of a row's network with random weights.

    Args:
        row: names the network.
        bench: says where the data lie, and on what is measured.
        batch_size: samples of a step, or None for those of the recipe.
        device: where the network is, or None for the device that is measured.
    """
    opened = bench.opened()
    spec = spec_of(row, opened, batch_size)
    switches = {row.switch: True} if row.switch else {}
    execution = Execution.of(
        device=device or bench.device, threads=torch.get_num_threads(), **switches
    )
    run = RunDir(bench.folder / "runs" / spec.key)
    # accelerate keeps the first device of a process, and an equality needs two of them.
    AcceleratorState._reset_state(reset_partial_state=True)
    trainer = Trainer(spec, run, opened, execution, published_start=False)
    trainer.stepper.network.train()
    return trainer


def batches_of(trainer: Trainer, count: int) -> Iterator[list[RawBatch]]:
    """Yield the micro-batches of steps without end, of which the first few return again and again.

    Args:
        trainer: whose samples they are.
        count: number of different steps, which are held in memory.
    """
    recipe = trainer.spec.recipe
    order = trainer.samples.order(0, recipe.batch_size, recipe.drop_last)[:count]
    made = [*training_batches(trainer.samples, 0, order, recipe.micro_batch, 0, 1, 0)]
    return itertools.cycle(made)


def finish(device: str) -> None:
    """Wait until a GPU has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def free() -> None:
    """Give back the memory of networks that nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


# --- kinds of rows --------------------------------------------------------------------------------


def card(row: Row, bench: Bench) -> dict[str, Any]:
    """Return the card's name, and how fast it copies and multiplies."""
    on_gpu = bench.device == "cuda"
    side = 8192 if bench.large else 256
    values: dict[str, Any] = {"card": "CPU", "torch": torch.__version__, "side": side}
    if on_gpu:
        properties = torch.cuda.get_device_properties(0)
        values |= {"card": properties.name, "memory_bytes": properties.total_memory}
        values |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    source = torch.ones(side * side * (16 if on_gpu else 1), device=bench.device)
    target = torch.empty_like(source)
    moved = 2 * source.nbytes  # read and written
    values["copy_bytes_per_second"] = moved / _seconds(lambda: target.copy_(source), bench.device)
    for name, dtype in {
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
        "tf32": torch.float32,
        "fp32": torch.float32,
    }.items():
        set_float32(name)
        left, right = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
        seconds = _seconds(lambda left=left, right=right: left @ right, bench.device)
        values[f"{name}_flops_per_second"] = 2 * side**3 / seconds
    return values


def _seconds(work: Callable[[], Any], device: str, times: int = 10) -> float:
    """Return the mean time of some work after a warm-up, in seconds."""
    for _ in range(3):
        work()
    finish(device)
    started = time.perf_counter()
    for _ in range(times):
        work()
    finish(device)
    return (time.perf_counter() - started) / times


def equality(row: Row, bench: Bench) -> dict[str, Any]:
    """Return how far the loss of one step is from that of the CPU in fp32.

    The networks are in evaluation mode, because dropout draws other numbers on a GPU. `next` is
    the same difference after the step. It has no tolerance, since Adam's first step is the sign of
    the gradient and turns the last digit of one near 0 into a whole step.
    """
    losses = {}
    # The CPU knows neither TF32 nor fp16.
    for device, its in (("cpu", dataclasses.replace(row, mode="fp32")), (bench.device, row)):
        trainer = trainer_of(its, bench, device=device)
        trainer.stepper.network.eval()
        batches = next(batches_of(trainer, 1))
        losses[device, its.mode] = [
            trainer.stepper.optimize(batches, 0)["train/loss"] for _ in range(2)
        ]
        precision = trainer.spec.recipe.precision
    expected = losses["cpu", "fp32"]
    found = losses[bench.device, row.mode]
    first, after = (abs(b - a) / abs(a) for a, b in zip(expected, found, strict=True))
    tolerance = TOLERANCES[precision if row.mode == "published" else row.mode]
    return {
        "precision": precision,
        "cpu_loss": expected[0],
        "loss": found[0],
        "difference": first,
        "tolerance": tolerance,
        "equal": first <= tolerance,
        "next": after,
    }


def repeat(row: Row, bench: Bench) -> dict[str, Any]:
    """Return whether two trainings with the same seed are the same bit by bit."""
    steps = 20 if bench.large else 2
    losses: list[list[float]] = []
    weights: list[dict[str, torch.Tensor]] = []
    for _ in range(2):
        trainer = trainer_of(row, bench)
        batches = itertools.islice(batches_of(trainer, 4), steps)
        losses.append([trainer.stepper.optimize(its, 0)["train/loss"] for its in batches])
        weights.append({name: its.cpu() for name, its in trainer.method.state_dict().items()})
    pairs = [*zip(weights[0].values(), weights[1].values(), strict=True)]
    differing = [step for step in range(steps) if losses[0][step] != losses[1][step]]
    return {
        "precision": trainer.spec.recipe.precision,
        "steps": steps,
        "first_differing_step": differing[0] if differing else None,
        "differing_tensors": sum(not torch.equal(a, b) for a, b in pairs),
        "tensors": len(pairs),
        "last_losses": [its[-1] for its in losses],
    }


def step(row: Row, bench: Bench) -> dict[str, Any]:
    """Return what a training step takes, with half the batch as long as it does not fit."""
    batch_size = published = methods.definition(row.method).recipes[row.variant].batch_size
    while True:
        try:
            values = _step(row, bench, batch_size)
            return {**values, "batch_size": batch_size, "published_batch_size": published}
        except torch.cuda.OutOfMemoryError:
            if batch_size == 1:
                raise
        # Here the traceback, which holds the network, is gone.
        free()
        batch_size //= 2


def _step(row: Row, bench: Bench, batch_size: int) -> dict[str, Any]:
    trainer = trainer_of(row, bench, batch_size)
    batches = batches_of(trainer, 3)
    for _ in range(WARM_UP):
        trainer.stepper.optimize(next(batches), 0)
    seconds = []
    for _ in range(bench.steps):
        finish(bench.device)
        started = time.perf_counter()
        # As in a training, the host prepares a step while the GPU computes the one before it.
        for _ in range(QUEUED):
            its = next(batches)
            trainer.stepper.enqueue(its, 0)
        trainer.stepper.fetch()
        finish(bench.device)
        seconds.append((time.perf_counter() - started) / QUEUED)
    middle = statistics.median(seconds)
    pairs = sum(len(micro.samples) for micro in its)
    peak = peak_bytes(trainer.device)
    syncs = host_syncs(trainer, next(batches))
    with FlopCounterMode(display=False) as counter:
        trainer.stepper.optimize(next(batches), 0)
    return {
        "precision": trainer.spec.recipe.precision,
        "size": trainer.spec.network.size,
        "pairs": pairs,
        "seconds": seconds,
        "median_seconds": middle,
        "pairs_per_second": pairs / middle,
        "peak_bytes": peak,
        "flops": counter.get_total_flops(),
        "host_syncs": sum(syncs.values()) if bench.device == "cuda" else None,
        "host_syncs_at": syncs,
    }


def host_syncs(trainer: Trainer, batches: list[RawBatch]) -> dict[str, int]:
    """Return `file:line` -> how often the CPU waits there for the GPU in one step."""
    if trainer.device.type != "cuda":
        return {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            trainer.stepper.enqueue(batches, 0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    trainer.stepper.fetch()
    root = Path(__file__).parents[2]
    places = collections.Counter(
        f"{path.relative_to(root) if path.is_relative_to(root) else path.name}:{its.lineno}"
        for its in caught
        if "synchronizing" in str(its.message)
        for path in (Path(its.filename),)
    )
    return dict(places.most_common())


def evaluate(row: Row, bench: Bench) -> dict[str, Any]:
    """Return how many expressions a second are evaluated, images read and masks scored."""
    trainer = trainer_of(row, bench)
    counted = {}
    for number in range(2):
        finish(bench.device)
        started = time.perf_counter()
        records = trainer.report.evaluate("val")
        counted["first_seconds" if number == 0 else "seconds"] = time.perf_counter() - started
    return {
        "expressions": len(records),
        "images": int(records["image_id"].nunique()),
        **counted,
        "expressions_per_second": len(records) / counted["seconds"],
        "peak_bytes": peak_bytes(trainer.device),
    }


def loader(row: Row, bench: Bench) -> dict[str, Any]:
    """Return how many images a second the loader makes without a cache, by number of workers."""
    opened = bench.opened()
    spec = spec_of(row, opened)
    dataset, tokenizer = opened.run(spec)
    # On this device a network has shapes and no weights, and only what it needs is asked.
    with torch.device("meta"):
        needs = methods.get(row.method)(spec.network, tokenizer.size).needs
    values: dict[str, Any] = {"size": needs.size}
    for workers in (0, 8) if bench.large else (0,):
        # RefShapes would fit into memory, and RefCOCO does not.
        samples = TrainingSamples(dataset, "train", needs, tokenizer, 0, cache_bytes=0)
        order = samples.order(0, 16, False)
        started = time.perf_counter()
        batches = training_batches(samples, 0, order, 16, 0, 1, workers)
        first = len(next(batches)[0].samples)
        begun = time.perf_counter()
        rest = sum(len(micro.samples) for batch in batches for micro in batch)
        values[f"workers_{workers}"] = {
            "images": first + rest,
            "start_seconds": begun - started,
            "images_per_second": rest / (time.perf_counter() - begun),
        }
    return values


KINDS: dict[str, Callable[[Row, Bench], dict[str, Any]]] = {
    "card": card,
    "equality": equality,
    "repeat": repeat,
    "step": step,
    "evaluate": evaluate,
    "loader": loader,
}


def measure(row: Row, bench: Bench) -> dict[str, Any]:
    """Return what was measured for a row, and how long that took in seconds."""
    started = time.perf_counter()
    values = KINDS[row.kind](row, bench)
    free()
    return {**values, "row_seconds": time.perf_counter() - started}
