"""Grouping by image against a naive loop that treats every expression alone, on the same input.

Both loops decode, change, prepare, encode and segment with the same functions and the same batch
size. They differ in the grouping alone: the naive one does all of it once per expression.

At k expressions per image the network saves at most a factor (E + D) / (E / k + D), with E the
text-free part of one image and D the rest of one expression. Decoding and changing the image happen
k times less often in any case.
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
from benchmark.data.refs import Ref
from benchmark.evaluation import metrics
from benchmark.evaluation.inference import Loaded
from benchmark.evaluation.predict import predict
from benchmark.evaluation.records import frame, records_of
from benchmark.evaluation.timing import Meter, Timed
from benchmark.robustness.conditions import Condition
from benchmark.robustness.covered_words import CoveredWords
from benchmark.robustness.images import CorruptedImages, preparation

AT_ONCE = 8  # images of an encoding and expressions of a decoding, in both loops
REPEATS = 3
PARTS = {  # name in the meters -> in the table
    "network": "network",
    "decode": "decode",
    "alter": "corrupt",
    "prepare": "prepare",
    "mask": "decide masks",
}


def bound(encode: float, segment: float, expressions: float) -> float:
    """Return the largest saving of a network, as a factor, at so many expressions per image.

    Args:
        encode: seconds of the text-free part of one image.
        segment: seconds of the rest of one expression.
    """
    return (encode + segment) / (encode / expressions + segment)


@dataclasses.dataclass
class Loop:
    """What one of the two loops gave.

    Attributes:
        records: one row per expression.
        meter: seconds to `decode`, to `alter` and to `prepare` images, of the `network`, of its
            `text-free` part up to the first sight of the text, and of the decision (`mask`).
    """

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
        """The largest saving of the network, from the naive loop's times."""
        meter, count = self.naive.meter, len(self.naive.records)
        encode = meter.seconds["text-free"] / count
        return bound(encode, meter.seconds["network"] / count - encode, self.expressions)

    def difference(self) -> str:
        """Return in words how the records of the two loops differ."""
        columns = ["intersection", "union"]
        pixels = (self.grouped.records[columns] - self.naive.records[columns]).abs().max(axis=1)
        if not pixels.any():
            return "the same records"
        naive, grouped = (
            100 * metrics.compute(loop.records)["oiou"] for loop in (self.naive, self.grouped)
        )
        return (
            f"{(pixels > 0).sum()} of {len(pixels)} records differ, by at most {pixels.max()}"
            " pixels (float32 sums in another order at the threshold);"
            f" oIoU {naive:.3f} and {grouped:.3f} %"
        )


def compare(network: Loaded, split: str, condition: Condition, count: int) -> Comparison:
    """Run both loops over the first `count` images of a split.

    Of some repetitions the fastest of each loop counts.

    Raises:
        UserError: the condition covers words, so that a sentence is several.
    """
    if isinstance(condition, CoveredWords):
        raise UserError("grouping is measured on images: give a corruption, such as fog-3.")
    images = CorruptedImages(network.dataset, split, [condition], [network.method.needs])
    together = [images.images.by_image[number] for number in images.images.image_ids[:count]]
    alone = [
        [dataclasses.replace(ref, sentences=(sentence,))]
        for refs in together
        for ref in refs
        for sentence in ref.sentences
    ]
    # What is compiled or loaded once is no part of a measurement.
    _loop(network, images, condition, together[:AT_ONCE])
    grouped, naive = [], []
    for _ in range(REPEATS):
        grouped.append(_loop(network, images, condition, together))
        naive.append(_loop(network, images, condition, alone))
    return Comparison(min(grouped, key=_network_seconds), min(naive, key=_network_seconds))


def _network_seconds(loop: Loop) -> float:
    return loop.meter.seconds["network"]


@torch.no_grad()
def _loop(
    network: Loaded, images: CorruptedImages, condition: Condition, items: Sequence[list[Ref]]
) -> Loop:
    """Evaluate each item, the refs of one image, by itself."""
    meter, method = Meter(), network.method
    rows: list[dict[str, Any]] = []
    for start in range(0, len(items), AT_ONCE):
        views: list[EvaluationImage] = []
        for refs in items[start : start + AT_ONCE]:
            changed = images.corrupted(condition, refs[0].image_id, refs)
            views += changed.views[preparation(method.needs)]
            for name, seconds in changed.seconds.items():
                meter.add(name, seconds)
        timed, begun = Timed(method, meter), time.perf_counter()
        with meter.measure("predict", len(views), network.device):
            predictions = predict(
                timed, views, network.tokenizer, network.device, expressions_at_once=AT_ONCE
            )
        meter.add("text-free", timed.encoded - begun, len(views))
        for prediction in predictions:
            rows += records_of(prediction)
    meter.add("network", meter.seconds["predict"] - meter.seconds["mask"], len(rows))
    return Loop(frame(rows), meter)


def show(comparisons: dict[str, Comparison], title: str, console: Console) -> None:
    """Print seconds per part and how much grouping saves, a line per part of a run."""
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("run", "k", "part", "naive, s", "grouped, s", "saved", "bound", "of it"):
        table.add_column(heading, justify="left" if heading in ("run", "part") else "right")
    for key, its in comparisons.items():
        for part, heading in PARTS.items():
            saving = its.saving(part)
            seconds = [f"{loop.meter.seconds[part]:.2f}" for loop in (its.naive, its.grouped)]
            cells = [heading, *seconds, f"{saving:.2f} x"]
            if part == "network":
                share = f"{100 * saving / its.bound:.0f} %"
                table.add_row(key, f"{its.expressions:.1f}", *cells, f"{its.bound:.2f} x", share)
            else:
                table.add_row("", "", *cells, "", "")
    console.print(table)
    for key, its in comparisons.items():
        console.print(f"{key}: {its.difference()}", soft_wrap=True)
