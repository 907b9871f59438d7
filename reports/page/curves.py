"""Learning curves: the training loss and the metric that chose the epoch, a line per seed.

Runs that are not finished are shown as far as they are.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from benchmark.evaluation import metrics
from benchmark.runs.rundir import RunDir
from reports.layout import numbers
from reports.page.chart import Chart, Line, chart
from reports.page.named import Named
from reports.robustness.panels import titled

POINTS = 80  # of a curve. A longer one is shown as means over steps that follow each other.
LOSS = "train/loss"


@dataclasses.dataclass(frozen=True)
class Curves:
    """The panels of one method on one data set.

    Attributes:
        dataset: what the runs are trained on.
        method: what the runs are called.
        charts: of the loss, and of the metric on the split that chose the epoch.
    """

    dataset: str
    method: str
    charts: list[Chart]


def curves(names: Mapping[str, Named], runs: Path) -> list[Curves]:
    """Return the panels of every method whose runs have logged anything.

    Args:
        names: run key -> what the page calls it.
        runs: folder of the run directories.
    """
    every = []
    for (dataset, method), members in groupby(names.values(), key=lambda its: its.place):
        # Predictions that were made elsewhere have logged nothing, and nothing chose their epoch.
        every_log = ((its, RunDir(runs / its.spec.key).metrics()) for its in members)
        logged = [(its, entries) for its, entries in every_log if entries]
        charts = [*_loss(method, logged), *_chosen(method, logged)]
        if charts:
            every.append(Curves(dataset, method, charts))
    return every


Logged = Sequence[tuple[Named, list[dict[str, float]]]]


def _loss(method: str, logged: Logged) -> list[Chart]:
    lines = []
    for its, entries in logged:
        points = [(entry["step"], entry[LOSS]) for entry in entries if entry.get(LOSS) is not None]
        if points:
            lines.append(Line(_label(its), its.look, thinned(points)))
    return [chart("training loss", "step", "loss", lines, method)] if lines else []


def _chosen(method: str, logged: Logged) -> list[Chart]:
    """Return the chart of the metric that chose the epochs, or several where plans mix them."""
    lines: dict[tuple[str, str], list[Line]] = {}
    for its, entries in logged:
        split, metric = its.spec.selection.split, its.spec.selection.metric
        name, times = f"{split}/{metric}", numbers.factor(metric)
        points = [
            (entry["epoch"], times * entry[name])
            for entry in entries
            if entry.get(name) is not None
        ]
        if points:
            lines.setdefault((split, metric), []).append(Line(_label(its), its.look, points))
    return [
        chart(
            f"{split} {metrics.get(metric).heading}",
            "epoch, from 0",
            titled(metric),
            own,
            method,
            dots=True,
        )
        for (split, metric), own in lines.items()
    ]


def _label(its: Named) -> str:
    return f"{its.strategy}, seed {its.spec.seed}"


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return a curve with at most `POINTS` points, each the mean of those that it stands for."""
    each = -(-len(points) // POINTS)
    parts = [points[start : start + each] for start in range(0, len(points), each)]
    return [
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts
    ]
