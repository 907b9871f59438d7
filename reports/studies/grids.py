"""The table and the figures of a grid: a line per row, its difference to the reference row, the paper's numbers beside it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from benchmark.base.errors import UserError, choose
from benchmark.evaluation import bootstrap, metrics
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from reports import figures, layout
from reports.compare import CHECKPOINTS, Collected, Run, collect, compare
from reports.layout import HEADINGS, NOTHING, Block
from reports.matrix import tables
from studies.grid import Grid, Row
from studies.study import Started

JUDGED = ("oiou",)
"""What has a verdict and a p-value; the other metrics are described."""
WIDTH = 110
PUBLISHED = Path(__file__).parents[1] / "published.csv"
PUBLISHED_COLUMNS = ("paper", "place", "system", "condition", "dataset", "split", "metric", "value", "note")
PUBLISHED_DATA, HOURS_PLACE = "refcoco", "App. A.2"
PROBES = {"original inputs": "probe/loss_original", "masked inputs": "probe/loss_masked"}


@dataclasses.dataclass(frozen=True)
class Results:
    """What a grid's table is made from.

    Attributes:
        started: the grid. collected: its runs.
        rows: label -> specs and finished runs, both by seed. splits: the one that chose the epoch first.
        table: what `results` describes. curves: panel -> label -> loss curves, one per run that logged any.
    """

    started: Started
    collected: Collected
    rows: dict[str, tuple[dict[int, RunSpec], dict[int, Run]]]
    splits: tuple[str, ...]
    table: pd.DataFrame
    curves: dict[str, dict[str, list[figures.Curve]]]

    @property
    def grid(self) -> Grid:
        """The study."""
        return self.started.study

    @property
    def base(self) -> RunSpec:
        """The spec of a baseline."""
        return next(iter(self.started.bases.values()))

    @property
    def shown(self) -> list[str]:
        """The study's metrics, the judged ones first."""
        return sorted(self.grid.metrics, key=lambda name: name not in JUDGED)

    def lines(self, split: str, metric: str) -> list[Any]:
        """Return the table's rows about a metric on a split."""
        part = self.table[(self.table["split"] == split) & (self.table["metric"] == metric)]
        return [*part.itertuples(index=False)]


# --- numbers ----------------------------------------------------------------------------------------------------------


def results(started: Started, runs: Path) -> Results:
    """Return all numbers of a grid: a line per row x split x metric, also for rows of which no run is finished.

    Columns are those of `comparison.compare` with `reference_` for `baseline_`, all fractions. `published` and
    `published_difference` are fractions too; `finished` counts runs. Only oIoU is judged: `p_images_holm` adjusts for the
    oIoU differences of all rows and splits.

    Raises:
        UserError: no run is finished, one is damaged, or the study names a metric or a published row that there is not.
    """
    grid: Grid = started.study
    for name in grid.metrics:
        choose(name, metrics.METRICS, f"metric of study {started.name}")
    paper = published(started)
    collected = collect(started.specs(), runs, f"start them with `risbench study resume {started.name}`")
    done = {run.spec.key: run for run in collected.runs}
    rows = {}
    for row in grid.rows:
        specs = {spec.seed: spec for spec in started.row_specs(row)}
        rows[row.label] = specs, {seed: done[spec.key] for seed, spec in specs.items() if spec.key in done}
    base = next(iter(started.bases.values()))
    chosen, report = base.selection.split, base.selection.report
    splits = tuple(sorted(report, key=lambda split: split != chosen))
    table = pd.DataFrame(
        [line for split in splits for label in rows for line in _lines(started, rows, paper, runs, split, label)]
    )
    table.columns = [name.replace("baseline_", "reference_") for name in table]
    table.insert(table.columns.get_loc("p_images") + 1, "p_images_holm", bootstrap.holm(table["p_images"].tolist()))
    # A run folder serves many studies: what else is finished in it says nothing about this one.
    collected = dataclasses.replace(collected, unused=())
    return Results(started, collected, rows, splits, table, _curves(rows, runs) if grid.curves else {})


def _curves(rows: dict, runs: Path) -> dict[str, dict[str, list[figures.Curve]]]:
    """Return panel -> label -> the loss curves that the finished runs of a row logged."""
    found: dict[str, dict[str, list[figures.Curve]]] = {}
    for label, (_, own) in rows.items():
        for run in own.values():
            logged = RunDir(runs / run.spec.key).metrics()
            for panel, name in PROBES.items():
                if pairs := [(line["step"], line[name]) for line in logged if line.get(name) is not None]:
                    steps, values = zip(*pairs, strict=True)
                    found.setdefault(panel, {}).setdefault(label, []).append((steps, values))
    return found


def _lines(
    started: Started, rows: dict, paper: dict[tuple[str, str, str], float], runs: Path, split: str, label: str
) -> Iterator[dict[str, Any]]:
    """Yield a row's numbers on a split, one line per metric."""
    grid, base = started.study, next(iter(started.bases.values()))
    specs, own = rows[label]
    reference = {} if label == grid.reference else rows[grid.reference][1]
    hours = {}
    if grid.hours:
        spent = [training_hours(runs, run) for run in own.values()]
        hours["training_hours"] = float(np.mean(spent)) if spent else np.nan
        hours["published_hours"] = paper.get((label, "train", "hours"), np.nan)
    for line in compare(own, reference, split, JUDGED) if own else _nothing():
        value, before = (paper.get((name, split, line["metric"]), np.nan) / 100 for name in (label, grid.reference))
        yield {
            "study": started.name,
            "place": grid.place,
            "dataset": base.dataset,
            "split_by": base.split_by,
            "data_sha256": base.data_sha256,
            "method": base.method,
            "variant": base.variant,
            "split": split,
            "row": label,
            "reference": grid.reference,
            "finished": f"{len(own)} of {len(specs)}",
            **line,
            "published": value,
            "published_difference": np.nan if label == grid.reference else value - before,
            **hours,
        }


def _nothing() -> list[dict[str, Any]]:
    """Return the lines of a row without a finished run: the columns of `compare`, all empty."""
    tuples = ("seeds", "points", "baseline_points", "differences", "runs", "baseline_runs", "left_out")
    tuples += ("selected_epochs", "git_commits", "git_dirty")
    numbers = ("mean", "deviation", "low", "high", "baseline_mean", "baseline_deviation")
    numbers += ("difference", "difference_low", "difference_high", "p_images")
    empty = dict.fromkeys(tuples, ()) | dict.fromkeys(numbers, np.nan) | {"compared": "", "verdict": ""}
    return [{"metric": metric, **empty} for metric in metrics.METRICS]


def training_hours(runs: Path, run: Run) -> float:
    """Return how long a run trained, in hours; NaN where its timing.json does not say."""
    seconds = RunDir(runs / run.spec.key).read_json("timing.json").get("training_seconds")
    return np.nan if seconds is None else seconds / 3600


def published(started: Started) -> dict[tuple[str, str, str], float]:
    """Return (row label, split, our name of the metric, or "hours") -> the paper's number, percent or hours.

    Raises:
        UserError: published.csv is damaged, or has nothing of what a row says that it has.
    """
    try:
        known = pd.read_csv(PUBLISHED, encoding="utf-8", keep_default_na=False, dtype={"value": float})
        if tuple(known.columns) != PUBLISHED_COLUMNS:
            raise ValueError(f"its columns are not {', '.join(PUBLISHED_COLUMNS)}")
    except FileNotFoundError:
        raise UserError(f"{PUBLISHED} is missing; install risbench again.") from None
    except ValueError as error:  # pandas' own are ValueErrors
        reason = str(error).splitlines()[0]
        raise UserError(f"{PUBLISHED} is damaged ({reason}); install risbench again.") from None
    names = {heading: name for name, heading in HEADINGS.items()} | {"hours": "hours"}
    grid, found = started.study, {}
    for row in grid.rows:
        if row.published is None:
            continue
        its = known[(known["system"] == _system(grid, row)) & (known["dataset"] == PUBLISHED_DATA)]
        choose(
            row.published,
            {*its[its["place"] == grid.place]["condition"]},
            f"study {started.name}, row '{row.label}': condition of {_system(grid, row)} in {grid.place} of published.csv",
        )
        its = its[its["place"].isin((grid.place, HOURS_PLACE)) & (its["condition"] == row.published)]
        for line in its.itertuples():
            if line.metric in names:
                found[row.label, line.split, names[line.metric]] = line.value
    return found


def _system(grid: Grid, row: Row) -> str:
    return row.system or grid.system


# --- lay out ----------------------------------------------------------------------------------------------------------


def blocks(found: Results) -> tuple[list[Block], list[Block]]:
    """Return the blocks about the split that chose the epoch (and about hours), and those about the others."""
    chosen, *others = found.splits
    main = [_block(found, chosen, metric) for metric in found.shown]
    return main + ([_hours_block(found)] if found.grid.hours else []), [
        _block(found, split, found.shown[0]) for split in others
    ]


def _block(found: Results, split: str, metric: str) -> Block:
    """Return one metric on one split: a line per row of the grid."""
    lines = found.lines(split, metric)
    header = ["row", "seeds", f"{HEADINGS[metric]} [95 %]", "difference [95 %]"]
    # One seed everywhere is said once, under the table, and not in every line.
    judged = metric in JUDGED and any(line.compared not in ("", CHECKPOINTS) for line in lines)
    header += ["compared"] if judged else []
    has_published = any(not np.isnan(line.published) for line in lines)
    header += ["published", "published\ndifference"] if has_published else []
    texts = []
    for line in lines:
        mean, change = _mean(line), layout.difference(line.difference, line.difference_low, line.difference_high)
        if line.row == found.grid.reference:
            change = "reference"
        cells = [line.row, ", ".join(map(str, line.seeds)) or NOTHING, mean, change]
        if judged:
            verdict = line.compared + (f": {line.verdict}" if line.compared != CHECKPOINTS else "")
            cells.append(verdict if line.compared else NOTHING)
        if has_published:
            cells += [layout.percent(line.published), layout.percent(line.published_difference, "+")]
        texts.append(tuple(cells))
    return Block(f"{HEADINGS[metric]} on {found.base.dataset} {split}", "", tuple(header), texts, names=2)


def _mean(line: Any) -> str:
    if np.isnan(line.mean):
        return "not finished" if not line.runs else NOTHING
    interval = "" if np.isnan(line.low) else f" [{layout.percent(line.low)}, {layout.percent(line.high)}]"
    return layout.plus_minus(line.mean, line.deviation) + interval


def _hours_block(found: Results) -> Block:
    """Return what training cost, measured and published, and both relative to the reference."""
    lines = found.lines(found.splits[0], found.shown[0])
    (reference,) = [line for line in lines if line.row == found.grid.reference]
    has_published = any(not np.isnan(line.published_hours) for line in lines)
    header = ("row", "seeds", "epochs", "training", "relative")
    header += ("published", "published\nrelative") if has_published else ()
    texts = []
    for line in lines:
        specs, own = found.rows[line.row]
        cells = (line.row, ", ".join(map(str, own)) or NOTHING, str(next(iter(specs.values())).recipe.epochs))
        cells += _duration(line.training_hours), _times(line.training_hours, reference.training_hours)
        if has_published:
            cells += _duration(line.published_hours), _times(line.published_hours, reference.published_hours)
        texts.append(cells)
    return Block("time of training, mean over seeds", "", header, texts, names=2)


def _duration(hours: float) -> str:
    if np.isnan(hours):
        return NOTHING
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def _times(hours: float, reference: float) -> str:
    return NOTHING if np.isnan(hours / reference) else f"{hours / reference:.2f} ×"


# --- what a reader must know ------------------------------------------------------------------------------------------


def definitions(found: Results) -> list[str]:
    """Return how the numbers are to be read, only what applies to this grid."""
    grid = found.grid
    chosen, *others = found.splits
    lines = [grid.note] if grid.note else []
    lines += [tables.ENTERING, tables.METRICS_NOTE, tables.INTERVAL_NOTE]
    lines.append(
        f"difference: a row minus the row '{grid.reference}', on the seeds that both have; a ± b: mean and sample standard"
        " deviation (ddof = 1) over seeds; a number without ± is from one seed."
    )
    lines.append(
        f"{chosen} chose the epoch of every run"
        + (f"; {' and '.join(others)} chose nothing and {_are(others)} measured once." if others else ".")
    )
    if len(found.started.bases) > 1:
        lines.append(
            "oIoU's verdict: confirmed (better than the reference) or contradicted (worse) only by at least three seed"
            " pairs of one sign and an interval clear of zero, otherwise undecided."
        )
    if not found.table["published"].isna().all():
        lines.append(_published_note(found))
    lines += [f"{row.label}: {'; '.join(_settings(found, row))}." for row in grid.rows]
    lines += tables.about(found.collected.specs)
    if grid.curves:
        lines.append(
            "Curves: the loss on a training batch and on the same batch masked, in train mode, every 25 steps; points are"
            " single measurements (wild ones, and the first tenth, may lie outside the frame), lines Gaussian means over steps"
            " (standard deviation 3 % of the training), bands reach from the smallest to the largest seed."
        )
    lines.append(
        "table.csv holds fractions, every metric and split, seed, run key, commit and epoch; its p_images are bootstrap"
        " p-values under resampling of the test images (they are about these trained networks, not about other seeds),"
        " p_images_holm adjusts them for all oIoU differences of this grid."
    )
    return [line if line.endswith(".") else f"{line}." for line in lines]


def _are(names: list[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _published_note(found: Results) -> str:
    """Return what the published numbers are, and, where these runs are of something else, what they are good for."""
    grid, base = found.grid, found.base
    systems = " and ".join(dict.fromkeys(_system(grid, row) for row in grid.rows if row.published))
    what = f"published: {grid.place} of MaskRIS (arXiv 2411.19067), {systems} on RefCOCO"
    method = grid.system.split("+")[0].lower()
    if (base.dataset, base.variant, base.method) == (PUBLISHED_DATA, "paper", method):
        return f"{what}; one run each, without intervals."
    ours = f"{base.method} {base.variant} on {base.dataset}"
    return f"{what}; these runs are {ours}, so the numbers stand there for orientation only."


def _settings(found: Results, row: Row) -> list[str]:
    """Return what a row does."""
    spec = next(iter(found.rows[row.label][0].values()))
    parts = tables.settings_of(spec.strategy) or ["neither masking nor augmentation"]
    lengths = {next(iter(specs.values())).recipe.epochs for specs, _ in found.rows.values()}
    if len(lengths) > 1:
        parts.append(f"{spec.recipe.epochs} epochs")
    return parts + [f"{name} {value}" for name, value in row.recipe.items()]


def footnotes(found: Results) -> list[str]:
    """Return what stands under the tables: what is missing, and with what code the runs were made."""
    notes = []
    if not found.rows[found.grid.reference][1]:
        notes.append(f"The reference row '{found.grid.reference}' is not finished, so there is no difference yet.")
    drawn = {label for lines in found.curves.values() for label in lines}
    if found.grid.curves and (silent := [label for label in found.rows if label not in drawn]):
        notes.append(f"No finished run of these rows logged a loss curve: {', '.join(silent)}.")
    return notes + tables.footnotes(found.collected, found.table)


# --- formats ----------------------------------------------------------------------------------------------------------


def write_grid(started: Started, runs: Path, out: Path) -> list[Path]:
    """Write `out/<name>/table.md`, `table.csv`, `table.tex` and the figures of a grid; return the paths.

    The figures are `differences` (where a row can be compared) and, for `curves`, `losses`, each as PNG and PDF. The CSV holds
    what `results` returns: fractions with six decimals, and lists with a space between their entries.

    Raises:
        UserError: as `results`, or `out` cannot be written.
    """
    found = results(started, runs)
    drawn = drawings(found)
    contents = {
        "table.md": markdown(found, [name for name in drawn if name.endswith(".png")]),
        "table.csv": layout.csv(found.table),
        "table.tex": latex(found),
    }
    return layout.write_files(out / started.name, contents | drawn)


def csv(started: Started, runs: Path) -> str:
    """Return `table.csv` of a grid; raises what `results` raises."""
    return layout.csv(results(started, runs).table)


def drawings(found: Results) -> dict[str, bytes]:
    """Return file name -> content of the grid's figures."""
    contents = {}
    points = [_point(found, line) for line in found.lines(found.splits[0], JUDGED[0])]
    if not all(np.isnan(point.value) for point in points):
        axis = f"oIoU on {found.splits[0]} minus the reference's, points"
        contents |= figures.differences(points, axis, f"{found.base.dataset}, 95 % interval", "paper, RefCOCO")
    if found.curves:
        contents |= figures.curves(found.curves, "training step", "training loss")
    return contents


def _point(found: Results, line: Any) -> figures.Point:
    note = "reference" if line.row == found.grid.reference else "" if line.runs else "not finished"
    numbers = (line.difference, line.difference_low, line.difference_high, line.published_difference)
    return figures.Point(line.row, *(100 * number for number in numbers), note)


def markdown(found: Results, pictures: list[str]) -> str:
    """Return the whole report as Markdown that also reads well as plain text; `pictures` are files beside it."""
    main, others = blocks(found)
    parts = [
        f"# {found.started.name}\n\n{_title(found)}",
        layout.bullets(definitions(found)),
        f"## {found.grid.place}",
        *map(layout.markdown_block, main),
        *(f"![{name.removesuffix('.png')}]({name})" for name in pictures),
        *(["## Other splits", *map(layout.markdown_block, others)] if others else []),
        layout.bullets(footnotes(found)),
    ]
    return "\n\n".join(parts) + "\n"


def _title(found: Results) -> str:
    base = found.base
    what = f"{base.method} {base.variant} on {base.dataset} (split by {base.split_by})"
    return f"{found.grid.description}: {found.grid.place} of MaskRIS (arXiv 2411.19067) with {what}."


def latex(found: Results) -> str:
    """Return one tabular per block for the package booktabs; what must be known stands in comments."""
    main, others = blocks(found)
    known = [found.started.name, _title(found), *definitions(found), *footnotes(found)]
    return layout.latex_comments(known) + "\n".join(layout.latex_tabular([block]) for block in [*main, *others])


def render_grid(console: Console, started: Started, runs: Path) -> None:
    """Print the same tables and footnotes to the terminal, at most `WIDTH` columns wide.

    Raises:
        UserError: as `results`.
    """
    found = results(started, runs)
    main, others = blocks(found)
    notes = [_title(found)] + ([found.grid.note] if found.grid.note else [])
    if not found.table["published"].isna().all():
        notes.append(_published_note(found))
    layout.print_blocks(console, [*main, *others], [*notes, *footnotes(found)], min(console.width, WIDTH))
