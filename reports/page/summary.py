"""The one sentence that says what was run and what was found."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from reports import labels
from reports.collected import Collected
from reports.layout import numbers

FOUND = {
    "better": "better in {}",
    "worse": "worse in {}",
    "no relevant difference": "without a relevant difference in {}",
    "undecided": "undecided in {}",
}


def sentence(collected: Collected, table: pd.DataFrame, against: str | None = None) -> str:
    """Return the sentence, which is about the primary metrics on test splits.

    Args:
        collected: the runs.
        table: what `compare.comparison` returns of them.
        against: name of the strategy that the others are compared with [the reference].
    """
    reference = labels.reference(collected.specs, against)
    cells = [its.cell for its in collected.planned]
    methods = _counted("method", {(cell.method, cell.variant) for cell in cells})
    every = dict.fromkeys(f"{cell.dataset} ({cell.split_by})" for cell in cells)
    where = f"{methods} on {_listed([*every])}"
    seeds = _counted("seed", {cell.seed for cell in cells})

    primary = table["metric"] == table["supervision"].map(collected.group.primary)
    rows = table[primary & (table["role"] == "test") & table["difference"].notna()]
    if rows.empty:
        found = f"Nothing is compared with {reference} yet: {where} with {seeds} were planned"
    else:
        others = _listed([*dict.fromkeys(rows["strategy"])])
        changes = "changes" if methods == "1 method" else "change"
        found = (
            f"With {others} in place of {reference}, {where} {changes} by {_range(rows)} points on"
            f" test splits ({seeds}), {_verdicts(rows['verdict'])}"
        )
    return f"{found}{_unfinished(collected)}."


def _range(rows: pd.DataFrame) -> str:
    """Return the least and the greatest difference of rows, as they are shown in tables."""
    ends = [
        numbers.number(difference, numbers.factor(metric), "+")
        for metric, difference in rows.sort_values("difference")[["metric", "difference"]].values
    ]
    return ends[0] if ends[0] == ends[-1] else f"{ends[0]} to {ends[-1]}"


def _verdicts(words: pd.Series) -> str:
    """Return how many comparisons have which verdict."""
    judged = words[words != ""]
    if judged.empty:
        return "and nothing can be judged yet"
    number = Counter(judged)
    found = [word for word in FOUND if number[word]]
    comparisons = "comparison" if len(judged) == 1 else "comparisons"
    if len(found) == 1:
        each = "the one" if len(judged) == 1 else f"all {len(judged)}"
        return f"which is {FOUND[found[0]].format(f'{each} {comparisons}')}"
    first, *others = (FOUND[word].format(number[word]) for word in found)
    return f"which is {_listed([f'{first} of {len(judged)} {comparisons}', *others])}"


def _counted(what: str, every: set[object]) -> str:
    return f"1 {what}" if len(every) == 1 else f"{len(every)} {what}s"


def _unfinished(collected: Collected) -> str:
    done, planned = len(collected.runs), len(collected.planned)
    return "" if done == planned else f", with {done} of {planned} planned runs finished"


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
