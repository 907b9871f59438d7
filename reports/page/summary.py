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


def sentence(collected: Collected, table: pd.DataFrame) -> str:
    """Return the sentence, which is about the primary metrics on test splits.

    Args:
        collected: the runs.
        table: what `compare.comparison` returns of them.
    """
    reference = labels.reference(collected.specs)
    primary = table["metric"] == table["supervision"].map(collected.group.primary)
    rows = table[primary & (table["role"] == "test") & table["difference"].notna()]
    done, planned = len(collected.runs), len(collected.planned)
    progress = "" if done == planned else f"{done} of {planned} planned runs are finished"
    if rows.empty:
        return (
            f"Nothing is compared with {reference} yet, and {progress or 'all runs are finished'}."
        )
    others = _listed([*dict.fromkeys(rows["strategy"])])
    methods = rows[["method", "variant"]].drop_duplicates()
    sets = rows[["dataset", "split_by"]].drop_duplicates().itertuples(index=False)
    where = _listed([f"{its.dataset} ({its.split_by})" for its in sets])
    change = "method changes" if len(methods) == 1 else "methods change"
    found = (
        f"With {others} in place of {reference}, {len(methods)} {change} by {_range(rows)} points"
        f" on test splits of {where} ({_seeds(rows)}), {_verdicts(rows['verdict'])}"
    )
    return ". ".join(filter(None, [found, progress])) + "."


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
    if len(judged) < len(words):
        comparisons += " that can be judged"
    if len(found) == 1:
        each = "the one" if len(judged) == 1 else f"all {len(judged)}"
        return f"which is {FOUND[found[0]].format(f'{each} {comparisons}')}"
    first, *others = (FOUND[word].format(number[word]) for word in found)
    return f"which is {_listed([f'{first} of {len(judged)} {comparisons}', *others])}"


def _seeds(rows: pd.DataFrame) -> str:
    """Return how many seeds the comparisons are over."""
    numbers_of = rows["seeds"].map(len)
    least, most = numbers_of.min(), numbers_of.max()
    if least < most:
        return f"{least} to {most} seeds"
    return "1 seed" if most == 1 else f"{most} seeds"


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
