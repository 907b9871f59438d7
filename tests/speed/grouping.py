"""Grouping by image against the naive loop that treats every expression alone, on the same input.

Both loops decode, change, prepare, encode and segment with the same functions and the same batch size; they differ in the
grouping alone: the naive one does all of it once per expression.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from benchmark.base.errors import UserError
from benchmark.data.images import EvaluationImage
from benchmark.data.refer import Ref
from benchmark.evaluation import metrics
from benchmark.evaluation.inference import Loaded
from benchmark.evaluation.predict import predict
from benchmark.evaluation.records import frame, records_of
from benchmark.evaluation.timing import Meter, Timed, bound
from benchmark.robustness.conditions import Condition
from benchmark.robustness.covered_words import CoveredWords
from benchmark.robustness.images import CorruptedImages, preparation

AT_ONCE = 8  # images of an encoding and expressions of a decoding, in both loops
REPEATS = 3


@dataclasses.dataclass
class Loop:
    """What one of the two loops gave: its records, and seconds to `decode`, to `alter`, to `prepare`, of the `network`, of its
    `text-free` part up to the first sight of the text, and of the decision about masks (`mask`)."""

    records: pd.DataFrame
    meter: Meter


@dataclasses.dataclass
class Comparison:
    """Both loops over the same expressions."""

    grouped: Loop
    naive: Loop

    @property
    def expressions(self) -> float:
        """Expressions per image."""
        return len(self.grouped.records) / self.grouped.records["image_id"].nunique()

    def saving(self, part: str) -> float:
        """Return how often the naive loop takes the grouped one's time for a part."""
        return self.naive.meter.seconds[part] / max(self.grouped.meter.seconds[part], 1e-9)

    @property
    def bound(self) -> float:
        """The largest saving of the network, from the naive loop's times of one image and one expression."""
        meter, count = self.naive.meter, len(self.naive.records)
        encode = meter.seconds["text-free"] / count
        return bound(encode, meter.seconds["network"] / count - encode, self.expressions)

    def apart(self) -> str:
        """Return in words how the records of the two loops differ."""
        columns = ["intersection", "union"]
        pixels = (self.grouped.records[columns] - self.naive.records[columns]).abs().max(axis=1)
        if not pixels.any():
            return "the same records"
        scores = [100 * metrics.metrics(loop.records)["oiou"] for loop in (self.naive, self.grouped)]
        return (
            f"{(pixels > 0).sum()} of {len(pixels)} records differ, by at most {pixels.max()} pixels (float32 sums in another"
            f" order at the threshold); oIoU {scores[0]:.3f} and {scores[1]:.3f} %"
        )


def compare(network: Loaded, split: str, condition: Condition, count: int) -> Comparison:
    """Run both loops over the first `count` images of a split; of some repetitions the fastest of each counts.

    Raises:
        UserError: the condition covers words, so that a sentence is several.
    """
    if isinstance(condition, CoveredWords):
        raise UserError("grouping is measured on images: give a corruption or occlusion, such as fog-3.")
    images = CorruptedImages(network.dataset, split, [condition], [network.method.needs])
    chosen = images.images.image_ids[:count]
    alone = [
        [dataclasses.replace(ref, sentences=(sentence,))]
        for image_id in chosen
        for ref in images.images.by_image[image_id]
        for sentence in ref.sentences
    ]
    together = [images.images.by_image[image_id] for image_id in chosen]
    _loop(network, images, condition, together[:AT_ONCE])  # what is compiled or loaded once
    loops = [
        (_loop(network, images, condition, together), _loop(network, images, condition, alone)) for _ in range(REPEATS)
    ]
    return Comparison(*(min(its, key=lambda loop: loop.meter.seconds["network"]) for its in zip(*loops, strict=True)))


@torch.no_grad()
def _loop(network: Loaded, images: CorruptedImages, condition: Condition, items: Sequence[list[Ref]]) -> Loop:
    """Ask about each item, the refs of one image, by itself."""
    meter, method = Meter(), network.method
    rows: list[dict[str, Any]] = []
    for start in range(0, len(items), AT_ONCE):
        views: list[EvaluationImage] = []
        for refs in items[start : start + AT_ONCE]:
            made = images.altered(condition, refs[0].image_id, refs)
            views += made.views[preparation(method.needs)]
            for name, seconds in made.seconds.items():
                meter.add(name, seconds)
        timed, begun = Timed(method, meter), time.perf_counter()
        with meter.measure("predict", len(views), network.device):
            predictions = predict(timed, views, network.tokenizer, network.device, expressions_at_once=AT_ONCE)
        meter.add("text-free", timed.encoded - begun, len(views))
        for prediction in predictions:
            rows += records_of(prediction)
    meter.add("network", meter.seconds["predict"] - meter.seconds["mask"], len(rows))
    return Loop(frame(rows), meter)


def show(found: dict[str, Comparison], title: str, console: Console) -> None:
    """Print seconds per part and how much grouping saves, a line per run."""
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("run", "k", "part", "naive, s", "grouped, s", "saved", "bound", "of it"):
        table.add_column(heading, justify="left" if heading in ("run", "part") else "right")
    for key, its in found.items():
        for part in ("network", "decode", "alter", "prepare", "mask"):
            first = part == "network"
            table.add_row(
                key if first else "",
                f"{its.expressions:.1f}" if first else "",
                {"alter": "corrupt", "mask": "decide masks"}.get(part, part),
                f"{its.naive.meter.seconds[part]:.2f}",
                f"{its.grouped.meter.seconds[part]:.2f}",
                f"{its.saving(part):.2f} x",
                f"{its.bound:.2f} x" if first else "",
                f"{100 * its.saving(part) / its.bound:.0f} %" if first else "",
            )
    console.print(table)
    for key, its in found.items():
        console.print(f"{key}: {its.apart()}", soft_wrap=True)
