"""Which comparisons a plan holds: what Holm's family consists of, whatever of it a table shows."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from benchmark import strategies
from benchmark.data import datasets
from benchmark.runs import splits
from benchmark.runs.groups import Cell, Group
from benchmark.runs.predictions import AnySpec, PredictionsSpec

Role = Literal["test", "chosen on", "other"]


class Comparison(NamedTuple):
    """A strategy that is compared with another one on a test split.

    Predictions that were made elsewhere are compared with each other alone.
    """

    method: str
    variant: str
    dataset: str
    split_by: str
    strategy: str
    split: str
    made_elsewhere: bool = False


def role(spec: AnySpec, split: str) -> Role:
    """Return what a reported split is to a run.

    `test` is one to judge it on, `chosen on` the one that chose its epoch, and `other` neither.
    """
    if split == spec.selection.split:
        return "chosen on"
    name, split_by, own = splits.owner(split) or (spec.dataset, spec.split_by, split)
    known = datasets.get(spec.dataset) if spec.dataset in datasets.DATASETS else None
    if known and known.selects_on == (name, split_by) and own == spec.selection.split:
        return "chosen on"
    return "test" if own in datasets.test_splits(name, split_by, (own,)) else "other"


def reported_as(spec: AnySpec, dataset: str | None, split: str) -> str | None:
    """Return the name under which a run reports a split, or None where it does not report it.

    Args:
        spec: of the run.
        dataset: the split's data set as commands write it, or None for the run's own.
        split: name of the split in that data set.

    Raises:
        UserError: the data set is not known.
    """
    name, split_by = datasets.parse(dataset) if dataset else (spec.dataset, spec.split_by)
    labels = [splits.label(name, split_by, split)]
    if (name, split_by) == (spec.dataset, spec.split_by):
        labels.insert(0, split)
    return next((label for label in labels if label in spec.selection.report), None)


def planned_comparisons(
    group: Group, specs: Iterable[AnySpec], against: str | None = None
) -> list[Comparison]:
    """Return the comparisons with one strategy that a preset planned to judge, each once.

    Args:
        group: the plan.
        specs: of its runs, as far as they are known. They say which splits are reported.
        against: name of the strategy that the others are compared with [the reference].
    """
    tests: dict[tuple[str, str], list[str]] = {}
    # Runs report every test split, and predictions those that somebody has scored.
    for spec in sorted(specs, key=lambda spec: isinstance(spec, PredictionsSpec)):
        named = [split for split in spec.selection.report if role(spec, split) == "test"]
        tests.setdefault((spec.dataset, spec.split_by), named)
    reference = against or strategies.reference().name
    begun = {_setting(cell) for cell in group.cells if cell.strategy == reference}
    planned = {}
    for cell in group.cells:
        if cell.strategy == reference or cell.trial is not None:
            continue
        # Nobody plans the reference of predictions, which may have none.
        if cell.name and _setting(cell) not in begun:
            continue
        where = (cell.dataset, cell.split_by)
        what = (cell.method, cell.variant, *where, cell.strategy)
        named = tests[where] if where in tests else _known_tests(*where)
        planned |= {Comparison(*what, split, bool(cell.name)): None for split in named}
    return [*planned]


def planned_rivals(group: Group, specs: Iterable[AnySpec]) -> list[tuple[Comparison, str]]:
    """Return the comparisons between rivals that a preset planned to judge, each once.

    Args:
        group: the plan.
        specs: of its runs, as far as they are known.

    Returns:
        Each comparison with the name of the strategy that it is one with.
    """
    specs = list(specs)
    planned = {(*_setting(cell), cell.strategy) for cell in group.cells if cell.trial is None}
    return [
        (its, other)
        for strategy, other in group.rivals
        for its in planned_comparisons(group, specs, other)
        if its.strategy == strategy and (*its[:4], its.made_elsewhere, other) in planned
    ]


def _setting(cell: Cell) -> tuple[str, str, str, str, bool]:
    return cell.method, cell.variant, cell.dataset, cell.split_by, bool(cell.name)


def _known_tests(name: str, split_by: str) -> tuple[str, ...]:
    """Return the test splits of a set on which no run has begun."""
    return datasets.get(name).tests.get(split_by, ()) if name in datasets.DATASETS else ()
