"""What MLflow shows of a group: notes, aggregates over seeds, and figures.

The command that syncs hands it to the tracker, which imports no report.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmark import evaluation
from benchmark.runs.comparisons import planned_comparisons
from benchmark.runs.groups import Group
from benchmark.runs.rundir import RunDir
from benchmark.tracking.group_report import GroupReport, ParentReport, ReportMaker
from benchmark.tracking.projection import parent_name, storable
from reports import compare, labels
from reports.collected import Collected, collect
from reports.figures import Drawn, contents_of
from reports.layout import files, markdown, numbers
from reports.layout.block import Block
from reports.layout.numbers import NOTHING
from reports.matrix import figure as differences
from reports.page.summary import sentence
from reports.robustness import figures
from reports.robustness.finished import finished
from reports.robustness.parts import primary_rows

# What parents have of robustness, of the metric that is judged. The rest is in the figures.
CONDITIONS = ("corruption", "occlusion", "summary")
# Figures in which all methods are, of which the first there is stands in the experiment's note.
OF_ALL = ("occlusion", "means", "heat", "language", "differences")
ORDER = (*OF_ALL, "severity")


class Place(NamedTuple):
    """A parent run: its data set and its name."""

    dataset: str
    parent: str


def maker(runs: Path) -> ReportMaker:
    """Return what makes the reports of the groups in a folder of runs."""
    code = hashlib.sha256()
    # The folder `out` is where a checkout keeps the reports themselves.
    own = sorted(path for path in Path(__file__).parent.iterdir() if path.name != "out")
    for place in (*own, Path(evaluation.__file__).parent):
        for path in sorted([place, *place.rglob("*")]):
            if path.suffix in (".py", ".csv", ".yaml"):
                code.update(path.read_bytes())
    return ReportMaker(code.hexdigest()[:12], partial(group_report, runs))


def group_report(runs: Path, group: Group) -> GroupReport | None:
    """Return what is shown of a group, or None where none of its runs is finished.

    Args:
        runs: folder of the run directories.
        group: a preset or a study.

    Raises:
        UserError: a run is damaged. The message names it.
    """
    if all(RunDir(runs / key).status().state != "done" for key in group.keys):
        return None
    collected = collect(group, runs)
    if group.kind == "study":
        return _of_study(collected, runs)
    table = labels.with_method_labels(compare.comparison(collected))
    parents = _parents(collected)
    robust, drawn = _robustness(collected, runs)
    drawn = [*differences.draw(table, group.primary, labels.reference(collected.specs)), *drawn]
    drawn.sort(key=lambda its: ORDER.index(its.kind))
    aggregates = [
        (parents[row.runs[0]], row) for row in (*table.itertuples(), *robust.itertuples())
    ]
    said = {
        place: ParentReport(
            _parent_note(rows, collected, drawn),
            _numbers(row for its, row in aggregates if its == place),
            _tables(rows) | contents_of(_own(drawn, rows)),
        )
        for place, rows in table.groupby(table["runs"].str[0].map(parents))
    }
    notes = {
        dataset: _note(rows, collected, table, parents, _own(drawn, rows))
        for dataset, rows in table.groupby("dataset", sort=False)
    }
    return GroupReport(notes, said)


def _of_study(collected: Collected, runs: Path) -> GroupReport:
    """Return the tables and figures that `risbench study report` wrote of a study."""
    group = collected.group
    folder = runs / "studies" / group.name / "report"
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*.*"))}
    pictures = [f"![{name}]({{artifact:{name}}})" for name in files if name.endswith(".png")]
    note = "\n\n".join(
        [group.description, *pictures[:2], f"`risbench study report {group.name}` made this."]
    )
    every = {spec.dataset for spec in collected.specs}
    parent = parent_name(collected.specs[0], group)
    return GroupReport(
        {dataset: f"**Study {group.name}**: {group.description}" for dataset in every},
        {(dataset, parent): ParentReport(note, {}, files) for dataset in every},
    )


# --- numbers --------------------------------------------------------------------------------------


def _parents(collected: Collected) -> dict[str, Place]:
    """Return the key of each run -> its parent."""
    return {
        spec.key: Place(spec.dataset, parent_name(spec, collected.group))
        for spec in collected.specs
    }


def _numbers(rows: Iterable[Any]) -> dict[str, float]:
    """Return mean, half-width and difference of each number of a parent.

    Half-widths are half of the 95 % interval. A number that several settings have is none of the
    parent, so it is left out.
    """
    found: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        what = _name(row)
        values = {
            f"mean/{what}": row.mean,
            f"difference/{what}": row.difference,
            f"halfwidth/{what}": (row.high - row.low) / 2,
            f"difference_halfwidth/{what}": (row.difference_high - row.difference_low) / 2,
        }
        for place, (name, value) in enumerate(values.items()):
            if value == value:
                found.setdefault((place, name), []).append(float(value))
    # MLflow lists metrics in the order in which they came.
    return {name: values[0] for (_, name), values in sorted(found.items()) if len(values) == 1}


def _name(row: Any) -> str:
    """Return the name of a row's number, which is that of the same number of a single run."""
    split = storable(row.split)
    if not hasattr(row, "kind"):
        return f"val/{row.metric}" if row.role == "chosen on" else f"test/{split}/{row.metric}"
    level = [f"{row.level:g}"] if row.kind in ("corruption", "occlusion") else []
    return "/".join(["robust", row.name, *level, split, row.metric])


def _robustness(collected: Collected, runs: Path) -> tuple[pd.DataFrame, list[Drawn]]:
    """Return numbers under all conditions that runs share, and the figures of robustness."""
    its = finished(collected, runs, planned_comparisons(collected.group, collected.specs))
    if its is None:
        return pd.DataFrame(), []
    shown = primary_rows(its.every, its.table)
    return shown[shown["kind"].isin(CONDITIONS)], figures.draw(its.every, its.table)


# --- notes ----------------------------------------------------------------------------------------


def _primary(rows: pd.DataFrame, group: Group) -> pd.DataFrame:
    """Return the rows of the metric that is judged, those of test splits first."""
    rows = rows[rows["metric"] == rows["supervision"].map(group.primary)]
    return rows.sort_values("role", key=lambda roles: roles != "test", kind="stable")


def _parent_note(rows: pd.DataFrame, collected: Collected, drawn: Sequence[Drawn]) -> str:
    """Return the table of one parent, and what stands in its artifacts."""
    reference = labels.reference(collected.specs)
    lines = []
    for row in _primary(rows, collected.group).itertuples():
        times = numbers.factor(row.metric)
        shown = (row.split, numbers.heading(row.metric))
        if row.strategy == reference:
            interval = numbers.between(row.low, row.high, times)
            lines.append((*shown, numbers.plus_minus(row.mean, row.deviation, times), interval))
        else:
            lines.append((*shown, *_compared(row, times)))
    is_reference = (rows["strategy"] == reference).all()
    header = (reference, "95 %") if is_reference else _header(reference, rows["strategy"].iloc[0])
    table = _table(("split", "metric", *header), lines)
    pictures = [f"![{name}]({{artifact:{name}}})" for name in map(_picture, _own(drawn, rows))]
    where = "Every metric is in the file report/table.md of the artifacts."
    return "\n\n".join([table, *_curves(rows), where, *pictures])


def _note(
    rows: pd.DataFrame,
    collected: Collected,
    table: pd.DataFrame,
    parents: Mapping[str, Place],
    drawn: Sequence[Drawn],
) -> str:
    """Return what was compared on one data set, the table with verdicts, and a figure."""
    group, reference = collected.group, labels.reference(collected.specs)
    lines = []
    compared = _primary(rows[rows["difference"].notna()], group)
    for row in compared[compared["role"] == "test"].itertuples():
        parent = parents[row.runs[0]].parent
        names = (f"[{row.label} {row.strategy}]({{run:{parent}}})", row.split)
        cells = _compared(row, numbers.factor(row.metric))
        lines.append((*names, numbers.heading(row.metric), *cells, *_links(row)))
    header = ("method", "split", "metric", *_header(reference, "with it"), "curves")
    pictures = [
        f"![{_picture(its)}]({{artifact:{parents[row.runs[0]].parent}/{_picture(its)}}})"
        for its in drawn
        for row in compared.itertuples()
        if its.kind in OF_ALL and its.runs & {*row.runs}
    ]
    parts = [f"**{group.name}**: {sentence(collected, table)}"]
    parts += [_table(header, lines)] if lines else []
    parts += pictures[:1]
    parts += [f"`risbench report {group.name}` writes the whole report."]
    return "\n\n".join(parts)


def _header(reference: str, other: str) -> tuple[str, ...]:
    return (reference, other, "difference [95 %]", "seeds", "verdict")


def _compared(row: Any, times: float) -> tuple[str, ...]:
    return (
        numbers.plus_minus(row.baseline_mean, row.baseline_deviation, times),
        numbers.plus_minus(row.mean, row.deviation, times),
        numbers.difference(row.difference, row.difference_low, row.difference_high, times),
        str(len(row.seeds)),
        row.verdict or NOTHING,
    )


def _links(row: Any) -> tuple[str]:
    """Return links to the curves of each pair of runs, one above the other."""
    pairs = zip(row.seeds, row.baseline_runs, row.runs, strict=True)
    return (", ".join(f"[seed {seed}]({{compare:{before},{own}}})" for seed, before, own in pairs),)


def _curves(rows: pd.DataFrame) -> list[str]:
    """Return a line of links to the curves of a parent's runs beside those of the reference."""
    row = next((row for row in rows.itertuples() if row.baseline_runs), None)
    return [f"Curves beside the reference: {_links(row)[0]}"] if row else []


def _table(header: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    """Return a table without a title, which would take the room of its first lines."""
    # MLflow's pages set the columns of a table without a gap.
    apart = [
        tuple(f"{cell}\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}" for cell in line) for line in lines
    ]
    return markdown.table(Block("", "", header, apart, names=2)).partition("\n\n")[2]


# --- files ----------------------------------------------------------------------------------------


def _tables(rows: pd.DataFrame) -> dict[str, bytes]:
    """Return the rows of a parent as CSV and Markdown."""
    lines = [
        (
            row.split,
            numbers.heading(row.metric),
            numbers.plus_minus(row.mean, row.deviation, numbers.factor(row.metric)),
            numbers.difference(
                row.difference,
                row.difference_low,
                row.difference_high,
                numbers.factor(row.metric),
            ),
            row.verdict or NOTHING,
        )
        for row in rows.itertuples()
    ]
    strategy = rows["strategy"].iloc[0]
    block = _table(("split", "metric", strategy, "difference [95 %]", "verdict"), lines)
    return {"table.csv": files.csv(rows).encode(), "table.md": f"{block}\n".encode()}


def _own(drawn: Sequence[Drawn], rows: pd.DataFrame) -> list[Drawn]:
    """Return the figures that show the runs of rows in which something is compared."""
    compared = rows[rows["difference"].notna()]
    return [its for its in drawn if its.runs & {*compared["runs"].explode()}]


def _picture(drawn: Drawn) -> str:
    """Return the name of the file that a browser shows."""
    return next(name for name in drawn.contents if name.endswith(".png"))
