"""Robustness on the page: a panel per corruption with the severity on the axis, and occlusion."""

import dataclasses

import pandas as pd

from benchmark.robustness.occlusion import TARGETS
from reports import labels
from reports.collected import Collected
from reports.layout import numbers
from reports.layout.block import Block
from reports.page.chart import Chart, Line, chart, span
from reports.robustness import compared, details
from reports.robustness.finished import Finished
from reports.robustness.occlusion import TITLES
from reports.robustness.panels import by_family, spoken, titled
from reports.robustness.parts import primary_rows


@dataclasses.dataclass(frozen=True)
class Panels:
    """The charts of one method on one split.

    Attributes:
        title: the method, the data set, the split and the metric.
        corruptions: a chart per corruption, with severity 0 for the clean split.
        occlusion: a chart per covered target, with 0 % for the clean split.
    """

    title: str
    corruptions: list[Chart]
    occlusion: list[Chart]


@dataclasses.dataclass(frozen=True)
class Robustness:
    """What the section shows.

    Attributes:
        compared: tables of clean, the mean over corruptions, and what is left of clean.
        panels: the charts of every method and split.
        words: tables of covered words.
    """

    compared: list[Block]
    panels: list[Panels]
    words: list[Block]


def robustness(collected: Collected, its: Finished | None) -> Robustness | None:
    """Return what corrupted images, covered objects and covered words change, or None.

    Args:
        collected: the finished runs.
        its: what they have under conditions, or None where they have nothing.
    """
    if its is None:
        return None
    shown = primary_rows(its.every, its.table)
    looks = {label: place for place, label in enumerate(labels.strategy_labels(collected.specs))}
    blocks = compared.blocks(its.every, shown)
    return Robustness(blocks, _panels(shown, looks), details.words(shown))


# --- charts ---------------------------------------------------------------------------------------


def _panels(table: pd.DataFrame, looks: dict[str, int]) -> list[Panels]:
    table = labels.with_method_labels(table)
    every = []
    places = ["dataset", "split", "metric", "label"]
    for (dataset, split, metric, label), rows in table.groupby(places, sort=False):
        title = f"{label}, {dataset} {split}"
        corrupted = rows[rows["kind"] == "corruption"]
        covered = rows[rows["kind"] == "occlusion"]
        names = by_family(corrupted["name"])
        targets = [target for target in TARGETS if (covered["name"] == target).any()]
        clean = rows[rows["kind"] == "clean"]
        severity = {spoken(name): _lines(clean, corrupted, name, metric, looks) for name in names}
        shares = {
            f"covered: {' '.join(TITLES[target].split())}": _lines(
                clean, covered, target, metric, looks
            )
            for target in targets
        }
        every.append(
            Panels(
                f"{title}, {numbers.heading(metric)}",
                _charts(severity, "severity, 0 is clean", metric, title),
                _charts(shares, "covered, % of its area", metric, title),
            )
        )
    return every


def _lines(
    clean: pd.DataFrame, rows: pd.DataFrame, name: str, metric: str, looks: dict[str, int]
) -> list[Line]:
    """Return a line per strategy from the clean split over the levels of one condition."""
    times = numbers.factor(metric)
    lines = []
    for strategy, look in looks.items():
        own = pd.concat([clean.assign(level=0), rows[rows["name"] == name]])
        own = own[own["strategy"] == strategy].sort_values("level")
        if len(own):
            points = [(float(row.level), times * row.mean) for row in own.itertuples()]
            band = [(times * row.low, times * row.high) for row in own.itertuples()]
            lines.append(Line(strategy, look, points, band))
    return lines


def _charts(lines: dict[str, list[Line]], across: str, metric: str, about: str) -> list[Chart]:
    """Return charts with one range of values, so that they can be compared by eye."""
    if not lines:
        return []
    heights = span([line for its in lines.values() for line in its])
    return [
        chart(title, across, titled(metric), its, about, heights, dots=True)
        for title, its in lines.items()
    ]
