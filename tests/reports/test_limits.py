"""Warnings of runs whose strategy hid next to nothing, or next to everything."""

import re

import pytest

from reports.collected import collect
from reports.compare import comparison
from reports.matrix import report
from tests.reports.fakes import make_run, make_spec, plan


def footnotes(folder, **shares):
    specs = [make_spec("baseline"), *(make_spec(name) for name in shares)]
    for spec in specs:
        run = make_run(folder, spec)
        for step, share in enumerate(shares.get(spec.strategy.name, ()), 1):
            run.log(step, 0, {"train/masked_share": share})
    collected = collect(plan(specs), folder)
    return report.made(collected, comparison(collected), folder=folder).footnotes


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((0.0, 0.01), r"is below 1 % .* nearly the clean one: .* \(0.5 %\)"),
        ((0.99, 0.91), r"is above 90 % .* sees next to nothing: .* \(95 %\)"),
        ((0.0, 0.5), ""),
    ],
)
def test_a_mean_share_beyond_its_limits_is_warned_about(tmp_path, shares, said):
    warned = [line for line in footnotes(tmp_path, amlris=shares) if "AMLRIS hides" in line]
    assert len(warned) == bool(said)
    assert not said or re.search(said, warned[0])


def test_strategies_without_limits_are_not_warned_about(tmp_path):
    assert not [line for line in footnotes(tmp_path, maskris=(0.0,)) if "hides" in line]
