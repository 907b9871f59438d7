"""Evaluates finished runs again under conditions: corruptions, occlusion and covered words.

The results lie in the run directories (see `results`). A condition whose results are there is never
evaluated again. An image is decoded and changed once per condition for all its expressions and all
runs, ahead of the networks. Each run encodes it once.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmark.base.errors import Interrupted, UserError, choose
from benchmark.evaluation import inference, masks
from benchmark.evaluation.devices import describe_choice, pick_device
from benchmark.evaluation.inference import Loaded
from benchmark.evaluation.predict import predict
from benchmark.evaluation.records import Prediction, frame, records_of
from benchmark.evaluation.timing import Meter, Timed
from benchmark.robustness.conditions import Condition
from benchmark.robustness.corruptions import Condition as Corruption
from benchmark.robustness.corruptions import TooSmall
from benchmark.robustness.covered_words import CoveredWords, CoveringTokenizer
from benchmark.robustness.images import Cache, CorruptedImage, CorruptedImages, ahead, preparation
from benchmark.robustness.results import (
    examples,
    results_path,
    summarize,
    write_masks,
    write_results,
)
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir

IMAGES_AT_ONCE = 8
OpenedFor = Callable[[RunDir], Opened]


def load_all(runs: Sequence[RunDir], opened: OpenedFor, device: str) -> dict[str, Loaded]:
    """Return run key -> its network.

    Args:
        runs: finished runs.
        opened: gives a run's data. Runs whose data it opens in one place share the data set.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        UserError: a run is not finished, has no weights, or its data are not where they were.
    """
    loaded = {}
    for run in runs:
        if (state := run.status().state) != "done":
            raise UserError(
                f"run {run.key} is not finished ({state}): finish it with"
                f" `risbench resume {run.key}`."
            )
        loaded[run.key] = inference.load(run, opened(run), device)
    return loaded


def evaluate_conditions(
    runs: Sequence[RunDir],
    splits: Sequence[str],
    conditions: Sequence[Condition],
    opened: OpenedFor,
    console: Console,
    *,
    workers: int = 0,
    device: str = "auto",
    cache: Path | None = None,
) -> dict[str, Meter]:
    """Evaluate all runs under all conditions that they have no results of yet.

    Args:
        runs: finished runs.
        splits: names of splits that each run reports.
        conditions: what happens to the images and sentences.
        opened: gives a run's data.
        console: where progress is shown.
        workers: processes that decode and change images ahead of the networks.
        device: `auto`, `cpu` or `cuda`.
        cache: folder that keeps corrupted images. None keeps none.

    Returns:
        Run key -> times of its network, and "images" -> times of the images.

    Raises:
        Interrupted: somebody stopped the program. Finished conditions are kept.
        UserError: a run is not finished or is held by another process, an image is missing, a
            corruption can take no image of a split, or a disk is full.
    """
    for run in runs:
        for split in splits:
            choose(split, run.any_spec().selection.report, f"split of run {run.key}")
    meters = {"images": Meter()}
    missing = [
        run
        for run in runs
        if any(
            not results_path(run, split, condition).exists()
            for split in splits
            for condition in conditions
        )
    ]
    try:
        with contextlib.ExitStack() as held:
            # Two commands that wait for each other's runs would wait for ever, but not where both
            # take them in the same order.
            for run in sorted(missing, key=lambda run: run.key):
                held.enter_context(run.claim(console.print))
            loaded = load_all(missing, opened, device)
            if missing and (choice := describe_choice(device, pick_device(device))):
                console.print(choice, markup=False, highlight=False)
            meters |= {key: Meter() for key in loaded}
            # Runs on the same data set see the same corrupted images.
            by_data: dict[int, list[RunDir]] = {}
            for run in missing:
                by_data.setdefault(id(loaded[run.key].dataset), []).append(run)
            for split in splits:
                for group in by_data.values():
                    networks = [loaded[run.key] for run in group]
                    work = _Split(group, networks, split, conditions, meters)
                    work.evaluate(workers, cache, console)
    except torch.cuda.OutOfMemoryError:
        raise UserError(
            f"the GPU is out of memory with {len(missing)} networks on it: name fewer runs at a"
            " time. Finished conditions are kept."
        ) from None
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped: finished conditions are kept, and the same command goes on from there"
        ) from None
    finally:
        for run in runs:
            for split in splits:
                summarize(run, split)
    return meters


@dataclasses.dataclass
class _Split:
    """Runs of one data set on one split of it.

    Attributes:
        runs: the runs.
        networks: theirs, in the same order.
        split: name of the split.
        conditions: what happens to the images and sentences.
        meters: run key, and "images", -> times.
    """

    runs: list[RunDir]
    networks: list[Loaded]
    split: str
    conditions: Sequence[Condition]
    meters: dict[str, Meter]

    def evaluate(self, workers: int, cache: Path | None, console: Console) -> None:
        """Evaluate the runs under the conditions that they lack."""
        remaining: list[tuple[Condition, list[int]]] = []
        for condition in self.conditions:
            numbers = [
                number
                for number, run in enumerate(self.runs)
                if not results_path(run, self.split, condition).exists()
            ]
            if numbers:
                remaining.append((condition, numbers))
        if not remaining:
            return
        dataset = self.networks[0].dataset
        stored = examples(dataset, self.split)
        kept = Cache(cache, dataset) if cache else None
        needs = [network.method.needs for network in self.networks]
        images = CorruptedImages(
            dataset, self.split, [condition for condition, _ in remaining], needs, kept
        )
        if kept:
            room = kept.reserve(dataset, images.images.image_ids, images.conditions)
            console.print(f"cache: {room}")
        count = len(images.images)
        groups = [
            [(number, image) for image in range(start, min(start + IMAGES_AT_ONCE, count))]
            for number in range(len(remaining))
            for start in range(0, count, IMAGES_AT_ONCE)
        ]
        batches = ahead(images, groups, workers)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task(self.split, total=count * len(remaining))
            for condition, numbers in remaining:
                progress.update(bar, description=f"{self.split} {condition}")
                start = time.perf_counter()
                rows: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}
                codes: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}
                left_out: list[TooSmall] = []
                for _ in range(0, count, IMAGES_AT_ONCE):
                    group, small = next(batches)
                    left_out += small
                    self._count(condition, group)
                    for number in numbers:
                        for prediction in self._predictions(number, condition, group):
                            rows[number] += records_of(prediction)
                            codes[number] += masks.rows_of(prediction, stored)
                    progress.advance(bar, len(group) + len(small))
                self._say(condition, left_out, count, console)
                small_ids = [each.image_id for each in left_out]
                for number in numbers:
                    run = self.runs[number]
                    # A condition with results is finished, so its masks are written before them.
                    # A covered word makes another sentence with the same number.
                    if not isinstance(condition, CoveredWords):
                        write_masks(run, self.split, condition, masks.frame(codes[number]))
                    write_results(run, self.split, condition, frame(rows[number]), small_ids)
                if not console.is_terminal:
                    seconds = time.perf_counter() - start
                    console.print(
                        f"{self.split} {condition}: {count} images, {len(numbers)} runs,"
                        f" {seconds:.1f} s"
                    )

    def _say(
        self, condition: Condition, left_out: list[TooSmall], count: int, console: Console
    ) -> None:
        """Name the images that a corruption could not take.

        Raises:
            UserError: these are all images of the split.
        """
        if len(left_out) == count:
            raise UserError(f"{left_out[0]}, as all of {self.split} are: leave {condition} out.")
        if left_out:
            more = f", and {len(left_out) - 1} more like it" if len(left_out) > 1 else ""
            console.print(
                f"{self.split} {condition}: {left_out[0]}{more}. The numbers under this condition"
                f" are of the other {count - len(left_out)} images.",
                markup=False,
            )

    def _count(self, condition: Condition, group: list[CorruptedImage]) -> None:
        """Add the times of some images to their meter."""
        meter = self.meters["images"]
        for item in group:
            for name, seconds in item.seconds.items():
                corrupted = name == "alter" and isinstance(condition, Corruption)
                meter.add("corrupt" if corrupted else name, seconds)

    @torch.no_grad()
    def _predictions(
        self, number: int, condition: Condition, group: list[CorruptedImage]
    ) -> list[Prediction]:
        """Return what one run says of some images."""
        network = self.networks[number]
        method = Timed(network.method, self.meters[self.runs[number].key])
        needed = preparation(network.method.needs)
        # An occluded image has a view for each referent, so there may be more views than images.
        views = [view for item in group for view in item.views[needed]]
        tokenizer = network.tokenizer
        if isinstance(condition, CoveredWords):
            tokenizer = CoveringTokenizer(tokenizer)
        predictions: list[Prediction] = []
        for first in range(0, len(views), IMAGES_AT_ONCE):
            batch = views[first : first + IMAGES_AT_ONCE]
            predictions += predict(method, batch, tokenizer, network.device)
        return predictions
