"""What papers print for the rows of a grid, from `reports/published.csv`."""

import dataclasses
from collections.abc import Mapping

import pandas as pd

from benchmark.base.errors import choose
from benchmark.runs.spec import RunSpec
from reports import published as printed
from reports.published import HOURS
from studies.grid import Grid
from studies.study import Started


@dataclasses.dataclass(frozen=True)
class Published:
    """The paper's numbers.

    Attributes:
        numbers: (row label, split, metric or `hours`) -> percent, or hours.
        datasets: data sets of the numbers, as the file names them, e.g. `refcoco`, `refcocog-umd`.
    """

    numbers: Mapping[tuple[str, str, str], float]
    datasets: tuple[str, ...]

    def __call__(self, row: str, split: str, metric: str) -> float:
        """Return a number, or NaN if the paper has none."""
        return self.numbers.get((row, split, metric), float("nan"))


def published(started: Started) -> Published:
    """Return what the paper has for the rows of a grid.

    Raises:
        UserError: published.csv is damaged, or lacks what a row says that it has.
    """
    grid = started.study
    known = printed.read()
    names = printed.metric_names() | {HOURS: HOURS}
    numbers: dict[tuple[str, str, str], float] = {}
    datasets: dict[str, None] = {}
    for row in grid.rows:
        if row.published is None:
            continue
        of_system = known[known["system"] == grid.system_of(row)]
        here = of_system[of_system["place"] == grid.place]
        choose(
            row.published,
            {*here["condition"]},
            f"study {started.name}, row '{row.label}': condition of {grid.system_of(row)} in"
            f" {grid.place} of published.csv",
        )
        dataset = _dataset(
            here[here["condition"] == row.published], next(iter(started.bases.values()))
        )
        datasets[dataset] = None
        # Hours stand in another place of the paper than the table that they belong to.
        lines = of_system[of_system["place"].eq(grid.place) | of_system["metric"].eq(HOURS)].query(
            "condition == @row.published and dataset == @dataset"
        )
        for line in lines.itertuples():
            if line.metric in names:
                numbers[row.label, line.split, names[line.metric]] = line.value
    return Published(numbers, tuple(datasets))


def _dataset(lines: pd.DataFrame, base: RunSpec) -> str:
    """Return the data set of a row's numbers, which is that of the runs if the paper has it."""
    names = [*dict.fromkeys(lines["dataset"])]
    return next((name for name in names if name in _names(base)), names[0])


def _names(base: RunSpec) -> set[str]:
    return {base.dataset, f"{base.dataset}-{base.split_by}"}


def note(started: Started, paper: Published) -> str:
    """Return what the published numbers are, and what they are good for beside other runs."""
    grid = started.study
    base = next(iter(started.bases.values()))
    systems = dict.fromkeys(grid.system_of(row) for row in grid.rows if row.published)
    what = (
        f"The published numbers are from {grid.place} of {grid.paper}: {' and '.join(systems)} on"
        f" {' and '.join(paper.datasets)}"
    )
    # A system is called like its method, if it has one, but for hyphens and capitals.
    is_method = base.method == grid.system.split("+")[0].lower().replace("-", "")
    if is_method and base.variant == grid.variant and {*paper.datasets} <= _names(base):
        return f"{what}, one run each and without intervals."
    ours = f"{base.method} {base.variant} on {base.dataset}"
    return f"{what}. These runs are {ours}, so the numbers stand there for orientation only."


def cautions(grid: Grid) -> list[str]:
    """Return why published numbers of some rows cannot be compared with ours, a line a reason."""
    labels: dict[str, list[str]] = {}
    for row in grid.rows:
        if row.no_value:
            labels.setdefault(row.no_value, []).append(row.label)
    return [
        f"The published numbers of {', '.join(own)} cannot be compared with ours: {reason}"
        for reason, own in labels.items()
    ]
