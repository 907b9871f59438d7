"""The tables of the report have one part per supervision, data set, split and metric."""

import dataclasses
from collections.abc import Iterator, Sequence

import pandas as pd

from reports import labels
from reports.layout import numbers
from reports.robustness.results import Results


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows of the robustness table that one block is about.

    Attributes:
        title: what they are about.
        metric: name of their metric.
        rows: the rows, with a column `label` that names the method.
    """

    title: str
    metric: str
    rows: pd.DataFrame

    @property
    def factor(self) -> float:
        """What values are multiplied by to be shown."""
        return numbers.factor(self.metric)


def parts(table: pd.DataFrame) -> Iterator[Part]:
    """Yield the parts of a table in its order."""
    places = ["supervision", "dataset", "split", "metric"]
    for (supervision, dataset, split, metric), rows in table.groupby(places, sort=False):
        title = f"{dataset} {split}, {numbers.heading(metric)}"
        title += ", weakly supervised" if supervision == "weak" else ""
        yield Part(title, metric, labels.with_method_labels(rows))


def mpc_name(every: Sequence[Results]) -> str:
    """Return the name of the mean over common corruptions, which is `mPC*` if some are missing."""
    return "mPC" if all(results.is_whole() for results in every) else "mPC*"


def rpc_name(every: Sequence[Results]) -> str:
    """Return the name of mPC relative to the clean split."""
    return mpc_name(every).replace("mPC", "rPC")


def primary_rows(every: Sequence[Results], table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the metrics by which the plan judges runs."""
    group = every[0].group
    primary = table["supervision"].map(group.primary)
    return table[table["metric"] == primary]
