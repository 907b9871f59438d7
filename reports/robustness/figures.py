"""All figures of the report, as PNG and PDF. They show the metrics that the plan judges runs by."""

from collections.abc import Sequence

import matplotlib.style
import pandas as pd

from reports import labels
from reports.figures import STYLE, Drawn
from reports.robustness import heat, language, means, occlusion, severity
from reports.robustness.parts import primary_rows
from reports.robustness.results import Results


def draw(every: Sequence[Results], table: pd.DataFrame) -> list[Drawn]:
    """Return every figure that a robustness table has numbers for.

    Weakly supervised methods, which may be judged by another metric, have figures of their own.
    """
    drawn: list[Drawn] = []
    rows = labels.with_method_labels(primary_rows(every, table))
    with matplotlib.style.context(STYLE):
        for (dataset, split, supervision), part in rows.groupby(
            ["dataset", "split", "supervision"], sort=False
        ):
            is_weak = supervision == "weak"
            place = f"{dataset}-{split}"
            title = f"{dataset} {split}"
            drawn += _severities(part, place, title)
            place += "-weak" if is_weak else ""
            title += ", weakly supervised" if is_weak else ""
            drawn += _together(part, place, title)
    return drawn


def _severities(rows: pd.DataFrame, place: str, title: str) -> list[Drawn]:
    """Return a figure for each method under corruptions."""
    drawn = []
    for label, own in rows.groupby("label", sort=False):
        if (own["kind"] == "corruption").any():
            name = f"severity-{place}-{label.replace(' ', '-')}"
            figure = severity.figure(own, f"{label}, {title}", own["metric"].iloc[0])
            drawn.append(Drawn.of("severity", own, name, figure))
    return drawn


def _together(rows: pd.DataFrame, place: str, title: str) -> list[Drawn]:
    """Return the figures that hold all methods."""
    metric = rows["metric"].iloc[0]
    kinds = set(rows["kind"])
    is_compared = rows[rows["kind"] == "corruption"]["difference"].notna().any()
    made = {}
    if "corruption mean" in kinds:
        made["means"] = means.figure(rows, title, metric)
    if is_compared:
        made["heat"] = heat.figure(rows, title, metric)
    if "occlusion" in kinds:
        made["occlusion"] = occlusion.figure(rows, title, metric)
    if kinds & {"language", "word"}:
        made["language"] = language.figure(rows, title, metric)
    return [Drawn.of(kind, rows, f"{kind}-{place}", figure) for kind, figure in made.items()]
