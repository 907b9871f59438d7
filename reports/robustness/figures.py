"""All figures of the report, as PNG and PDF. They show the metrics that the plan judges runs by."""

from collections.abc import Sequence

import matplotlib.style
import pandas as pd

from reports import labels
from reports.figures import STYLE, files
from reports.robustness import heat, language, means, occlusion, severity
from reports.robustness.parts import primary_rows
from reports.robustness.results import Results


def draw(every: Sequence[Results], table: pd.DataFrame) -> dict[str, bytes]:
    """Return file name -> content of every figure that a robustness table has numbers for.

    Weakly supervised methods, which may be judged by another metric, have figures of their own.
    """
    contents: dict[str, bytes] = {}
    rows = labels.with_method_labels(primary_rows(every, table))
    with matplotlib.style.context(STYLE):
        for (dataset, split, supervision), part in rows.groupby(
            ["dataset", "split", "supervision"], sort=False
        ):
            is_weak = supervision == "weak"
            place = f"{dataset}-{split}"
            title = f"{dataset} {split}"
            contents |= _severities(part, place, title)
            place += "-weak" if is_weak else ""
            title += ", weakly supervised" if is_weak else ""
            contents |= _together(part, place, title)
    return contents


def _severities(rows: pd.DataFrame, place: str, title: str) -> dict[str, bytes]:
    """Return a figure for each method under corruptions."""
    contents = {}
    for label, own in rows.groupby("label", sort=False):
        if (own["kind"] == "corruption").any():
            name = f"severity-{place}-{label.replace(' ', '-')}"
            figure = severity.figure(own, f"{label}, {title}", own["metric"].iloc[0])
            contents |= files(name, figure)
    return contents


def _together(rows: pd.DataFrame, place: str, title: str) -> dict[str, bytes]:
    """Return the figures that hold all methods."""
    metric = rows["metric"].iloc[0]
    kinds = set(rows["kind"])
    is_compared = rows[rows["kind"] == "corruption"]["difference"].notna().any()
    drawn = {}
    if "corruption mean" in kinds:
        drawn["means"] = means.figure(rows, title, metric)
    if is_compared:
        drawn["heat"] = heat.figure(rows, title, metric)
    if "occlusion" in kinds:
        drawn["occlusion"] = occlusion.figure(rows, title, metric)
    if kinds & {"language", "word"}:
        drawn["language"] = language.figure(rows, title, metric)
    return {
        name: content
        for kind, figure in drawn.items()
        for name, content in files(f"{kind}-{place}", figure).items()
    }
