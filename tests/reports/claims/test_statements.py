"""What constructed runs say to statements, which have several parts."""

import pytest

from benchmark.robustness.corruptions import sets
from reports.claims import evidence
from tests.reports.claims import runs as constructed
from tests.reports.claims.asking import answer, claim
from tests.reports.claims.runs import corrupt, finish

STATEMENT = "maskris-half-as-long"


def statement(runs, *splits):
    """Finish runs in which each difference of `splits` is that of testA and testB."""
    better, than = claim(STATEMENT).parts[0].better, claim(STATEMENT).parts[0].than
    for seed, (on_a, on_b) in enumerate(splits):
        finish(runs, than, seed, 0.7, only=("testA", "testB"))
        share = {"testA": 0.7 + on_a, "testB": 0.7 + on_b}
        finish(runs, better, seed, share, only=("testA", "testB"))


@pytest.mark.parametrize(
    ("splits", "status"),
    [
        ([(0.03, 0.02), (0.031, 0.021), (0.032, 0.022)], "confirmed"),
        ([(0.03, -0.03), (0.031, -0.031), (0.032, -0.032)], "contradicted"),
        ([(0.03, 0.0), (0.031, 0.0004), (0.032, -0.0004)], "no relevant difference"),
        ([(0.03, 0.05), (0.031, -0.04), (0.032, 0.02)], "undecided"),
        ([(0.03, 0.03)], "undecided"),
        ([], "not run"),
    ],
)
def test_a_statement_goes_through_each_status(tmp_path, splits, status):
    statement(tmp_path, *splits)
    found = answer(tmp_path, STATEMENT)
    assert found.status == status
    if len(splits) == 1:
        assert found.why == "it takes 3 seed pairs, and a part has 1"


def test_all_corruptions_means_each_of_the_17(tmp_path, monkeypatch):
    for module in (evidence, constructed):  # Two of five severities take less time.
        monkeypatch.setattr(module, "SEVERITIES", (2, 4))
    name = "maskris-corruptions"
    first = claim(name).parts[0]
    runs = {}
    for side in ("better", "than"):
        arm = getattr(first, side)
        runs[side] = [finish(tmp_path, arm, seed, 0.7, only=("val",)) for seed in range(3)]
    names = sets()["maskris"]
    for corruption in names[:-1]:
        for side, share in (("better", 0.63), ("than", 0.60)):
            for seed, run in enumerate(runs[side]):
                corrupt(run, "val", corruption, share + 0.001 * seed)
    found = answer(tmp_path, name)
    assert found.status == "not run" and found.why == (
        "1 of its 17 parts have no answer: its finished runs are not evaluated under saturate yet"
    )
    assert found.parts == "16 of 17 parts confirmed"
    for side, share in (("better", 0.60), ("than", 0.63)):
        for seed, run in enumerate(runs[side]):
            corrupt(run, "val", names[-1], share + 0.001 * seed)
    found = answer(tmp_path, name)
    assert found.status == "contradicted"
    assert found.qualified == "contradicted, on val, which chose the epoch"


def test_a_contradicted_statement_has_the_p_of_the_part_that_contradicts(tmp_path):
    statement(tmp_path, (0.05, -0.03), (-0.04, -0.031), (0.02, -0.032))
    found = answer(tmp_path, STATEMENT)
    assert found.status == "contradicted" and found.p < 0.05
