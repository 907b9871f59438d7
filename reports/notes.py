"""What a reader of any table must know, such as what its numbers mean."""

from collections.abc import Iterable, Sequence

import pandas as pd

from benchmark.evaluation import bootstrap, metrics, verdict
from benchmark.runs.groups import Group
from benchmark.runs.predictions import AnySpec, PredictionsSpec
from reports import labels
from reports.collected import Collected, Run, dirty
from reports.compare import CHECKPOINTS

ENTERING = (
    "Only finished runs of exactly the listed configurations enter, and averages are over seeds"
    " alone."
)
INTERVAL = (
    "[low, high] beside a value is the 95 % percentile bootstrap interval of the mean"
    f" (B = {bootstrap.RESAMPLES}), for which images are resampled with all their expressions. It"
    " says how much the choice of test images matters."
)
DIFFERENCE = (
    "Differences are paired on the same expressions and seeds. [low, high] beside a difference is"
    " its 95 % interval over seeds and images: D ± sqrt((t s / sqrt(n))² + (z e)²), with n pairs, s"
    " their standard deviation, and e the bootstrap standard error over images. With one pair it is"
    " over images alone."
)
SELECTION = (
    '"chosen on" stands where the split chose the epoch of the runs: its differences are shown and'
    " never judged."
)


def verdicts(group: Group, family: int) -> str:
    """Return how verdicts come about.

    Args:
        family: number of planned comparisons.
    """
    by_metric: dict[str, list[str]] = {}
    for supervision, name in group.primary.items():
        by_metric.setdefault(metrics.get(name).heading, []).append(supervision)
    judged = [
        f"{heading} ({' and '.join(kinds)} supervision)" for heading, kinds in by_metric.items()
    ]
    return (
        f"Judged is {' or '.join(judged)}, on test splits. better and worse: the p-value is below"
        f" {verdict.LEVEL} after Holm over all {family} planned comparisons, of at least"
        f" {verdict.LEAST_PAIRS} seed pairs. no relevant difference: the interval lies inside +-"
        f"{group.margin:g} points. All else is undecided."
    )


ONE_SEED = (
    f'"{CHECKPOINTS}" stands where there is one seed each, so that the difference is one between'
    " two trained networks and not between two strategies."
)

LEGEND = (
    "a ± b: mean and standard deviation over seeds. [low, high]: 95 % interval of the difference."
    " p: after Holm. –: nothing to show."
)

SHOWN = 6  # comparisons that a note names


# --- what numbers mean ----------------------------------------------------------------------------


def metrics_note(runs: Iterable[Run]) -> str:
    """Return what the metrics of some runs are, in the words of their definitions."""
    recorded = {name for run in runs for summed in run.splits.values() for name in summed.points}
    every = [metrics.get(name) for name in metrics.expected(recorded)]
    units = [f"{metric.heading} ({metric.unit})" for metric in every if metric.unit != "percent"]
    first = f"All numbers but those of {', '.join(units)} are percent." if units else ""
    iou = (
        "IoU of an expression is intersection / union at the original image size, and 0 where the"
        " union is empty."
    )
    parts = [first or "All numbers are percent.", iou, *(metric.described_by for metric in every)]
    return " ".join(parts)


def strategies(specs: Sequence[AnySpec]) -> list[str]:
    """Return what each strategy but the reference does, in its own words.

    Of one that predictions alone stand for, nobody knows the settings.
    """
    known = [spec for spec in specs if not (isinstance(spec, PredictionsSpec) and spec.stands_for)]
    return [
        f"{label}: {'; '.join(strategy.describe())}."
        for label, strategy in labels.strategy_labels(known).items()
        if not strategy.is_reference
    ]


def about(specs: Sequence[AnySpec]) -> list[str]:
    """Return what applies to these runs alone: strategies' notes, departures, and the data."""
    families = {spec.definition.text[0] for spec in specs if spec.definition}
    every = labels.strategy_labels(specs).values()
    lines = [note for strategy in every for note in strategy.notes(families)]
    # Of masks that were made elsewhere nothing is known of how their network was trained.
    trained = [spec for spec in specs if not isinstance(spec, PredictionsSpec)]
    lines += [
        f"Choices of this suite that no publication of {name} decides: {' '.join(its.choices)}"
        for name, its in sorted({spec.method: spec.definition for spec in trained}.items())
        if its.choices
    ]
    departures: dict[tuple[str, ...], set[str]] = {}
    for spec in trained:
        named = departures.setdefault(spec.network.departures, set())
        named.add(f"{spec.method} {spec.variant}")
    for texts, named in sorted(departures.items(), key=lambda item: sorted(item[1])):
        if texts:
            who = ", ".join(sorted(named))
            lines.append(f"Departures from the published training ({who}): {'; '.join(texts)}.")
    data = {(f"{spec.dataset} ({spec.split_by})", spec.data_sha256) for spec in specs}
    lines += [f"data of {name}: sha256 {digest[:12]}." for name, digest in sorted(data)]
    return list(dict.fromkeys(lines))


# --- what stands under a table --------------------------------------------------------------------


def footnotes(
    collected: Collected, table: pd.DataFrame, partners: str = "baseline_runs"
) -> list[str]:
    """Return what a table leaves out, what casts doubt on it, and what code made its runs.

    Args:
        collected: the runs that it is made from.
        table: rows of `compare.compare`.
        partners: its column of the runs that are compared with.
    """
    notes = []
    if (table["compared"] == CHECKPOINTS).any():
        notes.append(ONE_SEED)
    notes += undecided(table)
    notes += undefined(table)
    if left_out := sorted({key for keys in table["left_out"] for key in keys}):
        notes.append(
            "These runs are not compared, since the other strategy has no finished run with this"
            f" seed: {', '.join(left_out)}."
        )
    notes += made_elsewhere(collected.runs)
    notes += _not_shown(collected)
    notes += not_recorded(collected.runs)
    runs = {run.key: run for run in collected.runs}
    pairs = {
        pair
        for keys, others in zip(table["runs"], table[partners], strict=True)
        for pair in zip(keys, others, strict=False)
    }
    notes += numerics([(runs[key], runs[other]) for key, other in sorted(pairs)])
    return [*notes, *changes(collected.group), code(collected.runs)]


def undecided(table: pd.DataFrame) -> list[str]:
    """Return what would decide what has no clear verdict, and where nothing can be judged."""
    notes, subject = [], "strategy" if "strategy" in table else "row"
    for needs, rows in table[table["needs"] != ""].groupby("needs", sort=False):
        named = [
            " ".join(map(str, row))
            for row in rows[["dataset", "split", "method", "variant", subject]].itertuples(
                index=False
            )
        ]
        shown = ", ".join(named[:SHOWN]) + (
            f" and {more} more" if (more := len(named) - SHOWN) > 0 else ""
        )
        said = "Undecided" if (rows["verdict"] != "").all() else "No verdict"
        notes.append(f"{said}, since {needs}: {shown}.")
    for (name, split_by), rows in table.groupby(["dataset", "split_by"]):
        if not (rows["role"] == "test").any():
            notes.append(f"{name} ({split_by}) has no test split, so nothing can be judged on it.")
    return notes


def undefined(table: pd.DataFrame) -> list[str]:
    """Return which numbers do not exist in some resamples, and in how many.

    Without an interval there is nothing to say, since the table shows none.
    """
    rows = table[(table["undefined"] > 0) & (table["undefined"] < bootstrap.RESAMPLES)]
    if rows.empty:
        return []
    about = ["dataset", "split", "method", "variant", "strategy" if "strategy" in table else "row"]
    named = list(
        dict.fromkeys(
            " ".join([row.get("name", ""), metrics.get(row["metric"]).heading]).strip()
            + f" of {' '.join(str(row[column]) for column in about)} ({row['undefined']})"
            for row in rows.sort_values("undefined", ascending=False).to_dict("records")
        )
    )
    more = len(named) - SHOWN
    return [
        f"Some numbers do not exist in some of the {bootstrap.RESAMPLES} resamples, for which no"
        " image was drawn that has what they are about. Their intervals are over the others:"
        f" {', '.join(named[:SHOWN])}{f' and {more} more' if more > 0 else ''}."
    ]


def made_elsewhere(runs: Sequence[Run]) -> list[str]:
    """Return which runs have masks that were made elsewhere, and which of these are missing."""
    specs = [run.spec for run in runs if isinstance(run.spec, PredictionsSpec)]
    notes = []
    for spec in specs:
        row = f" and stand for {spec.stands_for}" if spec.stands_for else ""
        missing = [
            f"{its.missing} of {its.expressions} expressions of {split}"
            for split, its in spec.splits.items()
            if its.missing
        ]
        said = f", and {', '.join(missing)} have no mask, which counts as empty" if missing else ""
        notes.append(
            f"The masks of {spec.name} (seed {spec.seed}) on {spec.dataset} were made"
            f" elsewhere{row}{said}."
        )
    return notes


def _not_shown(collected: Collected) -> list[str]:
    """Return which planned runs are not in the table, and which runs of the folder."""
    notes = []
    shown = len(collected.planned)
    unfinished = collected.unfinished
    if shown < len(collected.group.cells):
        notes.append(
            f"The table is about {shown} of the {len(collected.group.cells)} planned runs."
        )
    if unfinished:
        notes.append(f"Not finished and not in this table ({len(unfinished)} of {shown} runs):")
        notes += [f"  {planned.name}: {planned.words}" for planned in unfinished]
    if keys := collected.superseded:
        notes.append(
            f"{_finished(len(keys))} superseded by what the plan holds now, and not part of this"
            f" table: {', '.join(keys)}."
        )
    if keys := collected.unused:
        notes.append(
            f"{_finished(len(keys), ' in the folder')} not part of this table: {', '.join(keys)}."
        )
    return notes


def _finished(count: int, where: str = "") -> str:
    return f"{count} finished run{where} is" if count == 1 else f"{count} finished runs{where} are"


def not_recorded(runs: Sequence[Run]) -> list[str]:
    """Return which metrics some runs were evaluated without."""
    notes = []
    for name in metrics.expected(()):
        lacking = [
            run.key
            for run in runs
            if any(name not in summed.points for summed in run.splits.values())
        ]
        if lacking:
            notes.append(
                f"{metrics.get(name).heading} is not recorded in {', '.join(lacking)}, which"
                " were evaluated before there was this metric: evaluate them again to see it."
            )
    return notes


def numerics(pairs: Iterable[tuple[Run, Run]]) -> list[str]:
    """Return a warning for compared runs that were computed with other numerics."""
    differing: dict[str, list[str]] = {}
    for run, other in pairs:
        differences = ", ".join(
            f"{name} {value} and {other.numerics[name]}"
            for name, value in run.numerics.items()
            if name in other.numerics and other.numerics[name] != value
        )
        if differences:
            named = f"{run.key} and {other.spec.key}"
            differing.setdefault(differences, []).append(named)
    return [
        "These runs are compared and were computed with different numerics, which can move a"
        f" result by itself: {texts} ({'; '.join(named)})."
        for texts, named in differing.items()
    ]


def changes(group: Group) -> list[str]:
    """Return what of primary metric or margin was changed after runs had been done."""
    return [f"The plan was changed: {change.rstrip('.')}." for change in group.changes]


def code(runs: Sequence[Run]) -> str:
    """Return what code made the runs."""
    words = {"yes": " with uncommitted changes", "no": "", "unknown": " (changes unknown)"}
    commits = [
        commit + words[state] for commit, state in sorted({(r.commit, dirty(r)) for r in runs})
    ]
    return f"Code of the runs: git commit {', '.join(commits)}."
