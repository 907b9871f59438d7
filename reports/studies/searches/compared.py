"""The tables of the best trial beside the paper's setting and the baseline.

What chose and what is only reported never share a table.
"""

from collections.abc import Sequence

from benchmark.evaluation import bootstrap
from reports.layout import numbers
from reports.layout.block import Block
from reports.studies.searches.results import ROLES, Results
from reports.studies.searches.trials import key_of


def blocks(results: Results, splits: Sequence[str], title: str) -> list[Block]:
    """Return the values of the three on some splits, and their differences if there are any."""
    both = [value_block(results, splits, title), difference_block(results, splits)]
    return [block for block in both if block]


def value_block(results: Results, splits: Sequence[str], title: str) -> Block:
    """Return the metric of the best trial, the paper's setting and the baseline."""
    metric = results.metric
    done = results.done
    lines = []
    for key, words in results.played().items():
        number = next(trial.number for trial in results.roles.values() if key_of(trial) == key)
        cells = []
        for split in splits:
            summed = done[key].splits[split]
            low, high = bootstrap.intervals(summed, names=[metric])[metric]
            value = summed.points[metric]
            times = numbers.factor(metric)
            cells.append(numbers.with_interval(value, float("nan"), low, high, times))
        lines.append((words, str(number), *cells))
    header = ("setting", "trial", *(_heading(metric, split) for split in splits))
    return Block(title, "", header, lines, names=1)


def difference_block(results: Results, splits: Sequence[str]) -> Block | None:
    """Return the paired differences of the three, or None if the complete ones are one run."""
    metric = results.metric
    lines = []
    for one, other in results.pairs():
        cells = []
        for split in splits:
            before, after = ({0: results.run(role).splits[split]} for role in (other, one))
            difference = bootstrap.paired_differences(before, after, names=[metric])[metric]
            ends = difference.interval
            cells.append(numbers.difference(difference.value, *ends, numbers.factor(metric)))
        lines.append((f"{ROLES[one]} - {ROLES[other]}", *cells))
    header = ("difference", *(_heading(metric, split) for split in splits))
    title = "Differences, paired on the same expressions"
    return Block(title, "", header, lines, names=1) if lines else None


def _heading(metric: str, split: str) -> str:
    return f"{split} {numbers.heading(metric)} [95 %]"
