"""The choice of the epoch by a metric that not all data have."""

from types import SimpleNamespace

import pytest

from benchmark.base.errors import UserError
from benchmark.training.best_epoch import BestEpoch
from tests.evaluation.tables import random_table


def choosing(metric, records):
    """The choice of an epoch by a metric, and the lines of its journal."""
    spec = SimpleNamespace(selection=SimpleNamespace(metric=metric, split="val"))
    report = SimpleNamespace(evaluate=lambda split: records, digest=lambda: "")
    lines = []
    journal = SimpleNamespace(is_main=True, line=lambda *line: lines.append(line))
    return BestEpoch(spec, report, journal), lines


def test_a_metric_that_the_split_has_not_cannot_choose_the_epoch():
    best, _ = choosing("giou", random_table(0))
    with pytest.raises(UserError, match="giou chooses the epoch and is not defined on val"):
        best.select(1, 0)


def test_a_metric_of_expressions_without_a_target_can_choose_the_epoch():
    records = random_table(0).assign(target_pixels=1)
    records.loc[0, ["ann_id", "target_pixels", "intersection", "union"]] = [-1, 0, 0, 0]
    best, lines = choosing("n_acc", records)
    assert best.select(1, 0) == best.value == 1 and lines[0][2]["val/n_acc"] == 1
