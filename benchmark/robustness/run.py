"""Finished runs asked again under corruptions, occlusion and covered words: records per condition in their directories.

    runs/<key>/robustness/<split>/<condition>.parquet   one row per referring expression, as in records/
                                  metrics.json          condition -> its metrics, made from those files

A condition whose file is there is never computed again. An image is decoded and changed once per condition for all its
expressions and all runs, ahead of the networks, and encoded once per run.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmark.base.errors import Interrupted, UserError, choose
from benchmark.base.files import atomic_write
from benchmark.data.refer import ReferDataset
from benchmark.evaluation import inference, metrics
from benchmark.evaluation.inference import Loaded
from benchmark.evaluation.predict import predict
from benchmark.evaluation.records import canonical, frame, records_of
from benchmark.evaluation.timing import Meter, Timed
from benchmark.robustness.conditions import Condition
from benchmark.robustness.corruptions import Condition as Corruption
from benchmark.robustness.corruptions import made_with
from benchmark.robustness.covered_words import CoveredWords, CoveringTokenizer, read_covered
from benchmark.robustness.images import Cache, CorruptedImage, CorruptedImages, ahead, preparation
from benchmark.runs.execution import Place
from benchmark.runs.resolve import open_dataset
from benchmark.runs.rundir import RunDir

IMAGES_AT_ONCE = 8


# --- what is kept -----------------------------------------------------------------------------------------------------


def results_path(run: RunDir, split: str, condition: Condition | str) -> Path:
    """Return where the records of a run under a condition lie."""
    return run.path / "robustness" / split / f"{condition}.parquet"


def read_results(run: RunDir, split: str, condition: Condition | str) -> pd.DataFrame:
    """Return the records of a run under a condition.

    Raises:
        UserError: there are none, or the file is damaged.
    """
    path = results_path(run, split, condition)
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError(
            f"run {run.key} was not asked under {condition} on {split}; `risbench robustness` does it."
        ) from None
    except (OSError, ValueError):
        raise UserError(f"{path} is damaged; delete it and start `risbench robustness` again.") from None


def finished_conditions(run: RunDir, split: str) -> list[str]:
    """Return the conditions of which a run has records, by name."""
    return sorted(path.stem for path in results_path(run, split, "").parent.glob("[!.]*.parquet"))


def write_results(run: RunDir, split: str, condition: Condition, records: pd.DataFrame) -> None:
    """Write the records of a run under a condition, with the libraries that changed its images (`made_with`). Raises UserError
    where the disk is full."""
    records.attrs["made_with"] = made_with()
    # zstd: there may be a hundred of these files, and it halves them.
    atomic_write(
        results_path(run, split, condition), lambda aside: records.to_parquet(aside, index=False, compression="zstd")
    )


def summarize(run: RunDir, split: str) -> None:
    """Bring `metrics.json` up to date with the records that are there: what a tracking store shows."""
    name = f"robustness/{split}/metrics.json"
    known, path = run.read_json(name), run.path / name
    written = path.stat().st_mtime_ns if known else 0

    def numbers(condition: str) -> dict[str, float]:
        if condition in known and results_path(run, split, condition).stat().st_mtime_ns <= written:
            return known[condition]
        records = read_results(run, split, condition)
        if condition == str(CoveredWords()):  # beside every covered sentence lies the same one uncovered
            records = read_covered(records).query("position >= 0")
        return canonical(metrics.metrics(records)) if len(records) else {}

    new = {condition: numbers(condition) for condition in finished_conditions(run, split)}
    if new != known:
        run.write_json(name, new)


# --- asking -----------------------------------------------------------------------------------------------------------


def load_all(runs: Sequence[RunDir], place: Callable[[RunDir], Place], device: str) -> dict[str, Loaded]:
    """Return run key -> its network; runs of the same data share the data set.

    Raises:
        UserError: a run is not finished, has no weights, or its data are not where they were.
    """
    opened: dict[tuple[Any, ...], ReferDataset] = {}
    loaded = {}
    for run in runs:
        if (state := run.status()["state"]) != "done":
            raise UserError(f"run {run.key} is not finished ({state}): finish it with `risbench resume {run.key}`.")
        spec, where = run.spec(), place(run)
        data = (spec.dataset, spec.split_by, spec.data_sha256)
        if data not in opened:
            opened[data] = open_dataset(spec.dataset, spec.split_by, where)
        loaded[run.key] = inference.load(run, lambda _, where=where: where, device, opened[data])
    return loaded


def evaluate_conditions(
    runs: Sequence[RunDir],
    splits: Sequence[str],
    conditions: Sequence[Condition],
    place: Callable[[RunDir], Place],
    console: Console,
    *,
    jobs: int = 0,
    device: str = "auto",
    cache: Path | None = None,
) -> dict[str, Meter]:
    """Ask all runs under all conditions that they have no records of yet; return what it cost: run key -> times, and "images".

    Args:
        jobs: processes that decode and change images ahead of the networks. cache: folder that keeps corrupted images.

    Raises:
        Interrupted: a stop was asked for; finished conditions are kept.
        UserError: a run is not finished or held by another process, an image is missing or too small, a disk is full.
    """
    for run in runs:
        for split in splits:
            choose(split, run.spec().selection.report, f"split of run {run.key}")
    meters = {"images": Meter()}
    missing = [
        run for run in runs if any(not results_path(run, split, its).exists() for split in splits for its in conditions)
    ]
    try:
        with contextlib.ExitStack() as held:
            for run in missing:
                held.enter_context(run.claim())
            loaded = load_all(missing, place, device)
            meters |= {key: Meter() for key in loaded}
            by_data: dict[int, list[RunDir]] = {}
            for run in missing:
                by_data.setdefault(id(loaded[run.key].dataset), []).append(run)
            for split in splits:
                for group in by_data.values():
                    _Split(group, [loaded[run.key] for run in group], split, conditions, meters).work(
                        jobs, cache, console
                    )
    except torch.cuda.OutOfMemoryError:
        raise UserError(
            f"the GPU is out of memory with {len(missing)} networks on it: name fewer runs at a time; finished conditions are"
            " kept."
        ) from None
    except KeyboardInterrupt:
        raise Interrupted("stopped; finished conditions are kept, and the same command goes on from there") from None
    finally:
        for run in runs:
            for split in splits:
                summarize(run, split)
    return meters


@dataclasses.dataclass
class _Split:
    """Runs of one data set on one split of it."""

    runs: list[RunDir]
    networks: list[Loaded]
    split: str
    conditions: Sequence[Condition]
    meters: dict[str, Meter]

    def work(self, jobs: int, cache: Path | None, console: Console) -> None:
        """Ask the runs under the conditions that they lack."""
        todo = [
            (condition, [n for n, run in enumerate(self.runs) if not results_path(run, self.split, condition).exists()])
            for condition in self.conditions
        ]
        todo = [(condition, asked) for condition, asked in todo if asked]
        if not todo:
            return
        dataset = self.networks[0].dataset
        kept = Cache(cache, dataset) if cache else None
        needs = [network.method.needs for network in self.networks]
        images = CorruptedImages(dataset, self.split, [condition for condition, _ in todo], needs, kept)
        if kept:
            console.print(f"cache: {kept.reserve(dataset, images.images.image_ids, images.conditions)}")
        count = len(images.images)
        groups = [
            [(number, image) for image in range(start, min(start + IMAGES_AT_ONCE, count))]
            for number in range(len(todo))
            for start in range(0, count, IMAGES_AT_ONCE)
        ]
        made = ahead(images, groups, jobs)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task(self.split, total=count * len(todo))
            for condition, asked in todo:
                progress.update(bar, description=f"{self.split} {condition}")
                start, rows = time.perf_counter(), {number: [] for number in asked}
                for _ in range(0, count, IMAGES_AT_ONCE):
                    group = next(made)
                    self._count(condition, group)
                    for number in asked:
                        rows[number] += self._ask(number, condition, group)
                    progress.advance(bar, len(group))
                for number in asked:
                    write_results(self.runs[number], self.split, condition, frame(rows[number]))
                if not console.is_terminal:
                    seconds = time.perf_counter() - start
                    console.print(f"{self.split} {condition}: {count} images, {len(asked)} runs, {seconds:.1f} s")

    def _count(self, condition: Condition, group: list[CorruptedImage]) -> None:
        meter = self.meters["images"]
        for item in group:
            for name, seconds in item.seconds.items():
                corrupted = name == "alter" and isinstance(condition, Corruption)
                meter.add("corrupt" if corrupted else name, seconds)

    @torch.no_grad()
    def _ask(self, number: int, condition: Condition, group: list[CorruptedImage]) -> list[dict[str, Any]]:
        """Return the records of one run on some images."""
        network, meter = self.networks[number], self.meters[self.runs[number].key]
        its = preparation(network.method.needs)
        views = [view for item in group for view in item.views[its]]
        tokenizer = network.tokenizer
        if isinstance(condition, CoveredWords):
            tokenizer = CoveringTokenizer(tokenizer)
        rows: list[dict[str, Any]] = []
        for first in range(0, len(views), IMAGES_AT_ONCE):
            at_once = views[first : first + IMAGES_AT_ONCE]
            for prediction in predict(Timed(network.method, meter), at_once, tokenizer, network.device):
                rows += records_of(prediction)
        return rows
