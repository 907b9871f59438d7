"""The numbers of a grid, whose rows are compared with the reference row and with the paper."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import methods
from benchmark.base.errors import choose
from benchmark.data import datasets
from benchmark.evaluation import metrics
from benchmark.runs.comparisons import role
from benchmark.runs.costs import read_costs
from benchmark.runs.groups import Cell, Group
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from benchmark.runs.splits import owner
from reports.collected import Collected, Run, collect
from reports.compare import compare, difference_columns
from reports.studies.grids.published import HOURS, Published, published
from reports.studies.plan import written_plan
from reports.verdicts import with_verdicts
from studies.grid import Grid
from studies.study import Started

Rows = dict[str, tuple[dict[int, RunSpec], dict[int, Run]]]


@dataclasses.dataclass(frozen=True)
class Results:
    """What a grid's report is made from.

    Attributes:
        started: the grid.
        runs: folder of the run directories.
        collected: the runs of the grid.
        paper: what is published for the rows.
        rows: label -> specs and finished runs, both by seed.
        splits: the one that chose the epoch, then the others.
        table: as `results` describes it.
    """

    started: Started
    runs: Path
    collected: Collected
    paper: Published
    rows: Rows
    splits: tuple[str, ...]
    table: pd.DataFrame

    @property
    def grid(self) -> Grid:
        """The study."""
        return self.started.study

    @property
    def base(self) -> RunSpec:
        """The spec of a baseline."""
        return next(iter(self.started.bases.values()))

    @property
    def specs(self) -> list[RunSpec]:
        """The specs of all rows and seeds, finished or not."""
        return [spec for specs, _ in self.rows.values() for spec in specs.values()]

    @property
    def supervision(self) -> str:
        """`weak` or `full`."""
        is_weak = methods.definition(self.base.method).weakly_supervised
        return "weak" if is_weak else "full"

    @property
    def judged(self) -> str:
        """The one metric that has a verdict, which is the plan's primary metric."""
        return self.collected.group.primary[self.supervision]

    @property
    def comparisons(self) -> int:
        """The number of planned comparisons: every row but the reference on every test split."""
        tests = [split for split in self.splits if role(self.base, split) == "test"]
        return (len(self.rows) - 1) * len(tests)

    @property
    def shown(self) -> list[str]:
        """The metrics that the report shows, first the judged one and then the study's others."""
        return list(dict.fromkeys((self.judged, *self.grid.metrics)))

    def lines(self, split: str, metric: str) -> list[Any]:
        """Return the table's rows about a metric on a split."""
        is_of = (self.table["split"] == split) & (self.table["metric"] == metric)
        return [*self.table[is_of].itertuples(index=False)]


def plan(started: Started, runs: Path) -> Group:
    """Return a grid as a plan, with a cell for each row and seed and what its group knows."""
    cells = [
        Cell.of(spec, row.label) for row in started.study.rows for spec in started.row_specs(row)
    ]
    known = written_plan(started, runs)
    # Keys that were planned for other rows, or by other code, are superseded.
    return dataclasses.replace(known, cells=cells, gone=[*known.cells, *known.gone])


def results(started: Started, runs: Path) -> Results:
    """Return all numbers of a grid.

    The table has one row per row of the grid x split x metric, also for rows of which no run is
    finished. Its columns are those of `compare.comparison` with `reference_` for `baseline_`, all
    fractions. `published` and `published_difference` are fractions, too, and `finished` counts
    runs. The family of its verdicts is every row but the reference on every test split.

    Raises:
        UserError: no run is finished, one is damaged, or the study names a metric or a published
            row that there is not.
    """
    grid: Grid = started.study
    for name in grid.metrics:
        choose(name, metrics.names(), f"metric of study {started.name}")
    paper = published(started)
    collected = collect(plan(started, runs), runs)
    done = {run.key: run for run in collected.runs}
    rows: Rows = {}
    for row in grid.rows:
        specs = {spec.seed: spec for spec in started.row_specs(row)}
        own = {seed: done[spec.key] for seed, spec in specs.items() if spec.key in done}
        rows[row.label] = specs, own
    base = next(iter(started.bases.values()))
    chosen = base.selection.split
    splits = tuple(sorted(base.selection.report, key=lambda split: split != chosen))
    # A folder of runs serves many studies, so what else is finished says nothing about this one.
    collected = dataclasses.replace(collected, unused=())
    unfilled = Results(started, runs, collected, paper, rows, splits, pd.DataFrame())
    table = pd.DataFrame(
        [line for split in splits for label in rows for line in _lines(unfilled, split, label)]
    )
    table.columns = [name.replace("baseline_", "reference_") for name in table]
    judged = with_verdicts(table, collected.group, unfilled.comparisons)
    return dataclasses.replace(unfilled, table=judged)


def _lines(unfilled: Results, split: str, label: str) -> Iterator[dict[str, Any]]:
    """Yield a row's numbers on a split, one line per metric.

    Args:
        unfilled: results whose table is still empty.
        split: name of the split.
        label: of the row.
    """
    grid = unfilled.grid
    base = unfilled.base
    paper = unfilled.paper
    specs, own = unfilled.rows[label]
    reference = {} if label == grid.reference else unfilled.rows[grid.reference][1]
    hours = {}
    if grid.hours:
        each = [training_hours(unfilled.runs, run) for run in own.values()]
        hours["training_hours"] = float(np.mean(each)) if each else np.nan
        hours["published_hours"] = paper(label, "train", HOURS)
    lines = compare(own, reference, split) if own else _nothing(base, split)
    for line in lines:
        value = paper(label, split, line["metric"]) / 100
        before = paper(grid.reference, split, line["metric"]) / 100
        yield {
            "study": unfilled.started.name,
            "place": grid.place,
            "dataset": base.dataset,
            "split_by": base.split_by,
            "data_sha256": base.data_sha256,
            "method": base.method,
            "variant": base.variant,
            "supervision": unfilled.supervision,
            "split": split,
            "role": role(base, split),
            "row": label,
            "reference": grid.reference,
            "finished": f"{len(own)} of {len(specs)}",
            **line,
            "published": value,
            "published_difference": np.nan if label == grid.reference else value - before,
            **hours,
        }


def _nothing(base: RunSpec, split: str) -> list[dict[str, Any]]:
    """Return the lines of a row without a finished run, with `compare`'s columns, all empty."""
    name = (owner(split) or (base.dataset,))[0]
    beside = datasets.get(name).metrics if name in datasets.DATASETS else ()
    tuples = (
        "seeds",
        "points",
        "baseline_points",
        "runs",
        "baseline_runs",
        "left_out",
        "selected_epochs",
        "git_commits",
        "git_dirty",
    )
    numbers = ("mean", "deviation", "low", "high", "half_width")
    numbers += ("baseline_mean", "baseline_deviation")
    empty = dict.fromkeys(tuples, ()) | dict.fromkeys(numbers, np.nan) | difference_columns(None)
    return [{"metric": metric, "undefined": 0, **empty} for metric in metrics.expected(beside)]


def training_hours(runs: Path, run: Run) -> float:
    """Return how long a run trained, in hours, or NaN if that was not measured."""
    costs = read_costs(RunDir(runs / run.key))
    seconds = costs.training_seconds if costs else None
    return np.nan if seconds is None else seconds / 3600
