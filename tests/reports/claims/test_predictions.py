"""Predictions that were made elsewhere answer the claims of the row that they stand for."""

import pytest

from reports.claims.finished import FinishedRuns
from tests.reports.claims.asking import answer, claim, claims
from tests.reports.claims.runs import elsewhere, finish, measure
from tests.reports.claims.test_answers import SIGN, VALUE


def test_they_answer_a_sign_in_pairs(tmp_path):
    (part,) = claim(SIGN).parts
    for seed in range(3):
        elsewhere(tmp_path, part.than, seed, 0.60, f"plain-{seed}")
        elsewhere(tmp_path, part.better, seed, 0.65, f"masked-{seed}")
    found = answer(tmp_path, SIGN)
    assert found.status == "confirmed"
    assert found.found.mean.value == pytest.approx(0.05, abs=0.005)
    assert len(found.found.runs) == 6 and all("lavt-paper" in key for key in found.found.runs)


def test_they_are_never_paired_with_a_run_of_the_suite(tmp_path):
    (part,) = claim(SIGN).parts
    elsewhere(tmp_path, part.better, 0, 0.65, "masked")
    finish(tmp_path, part.than, 0, 0.60, only=("testA",))
    assert answer(tmp_path, SIGN).status == "not run"


def test_they_answer_a_value_once_it_is_measured_as_it_was_published(tmp_path):
    arm = claim(VALUE).value.arm
    run = elsewhere(tmp_path, arm, 0, 0.7, "released")
    before = answer(tmp_path, VALUE)
    assert before.status == "not run" and arm.protocol in before.why
    measure(run, arm.protocol, "testA", 0.7)
    found = answer(tmp_path, VALUE)
    assert found.found.runs == (run.key,)
    assert found.found.mean.value == pytest.approx(0.7, abs=0.01)


def test_nobody_says_of_predictions_that_they_are_an_ablation(tmp_path):
    """A row of an ablation has settings, and the three names of `--as` are those of its paper."""
    ablation, plain = (
        next(
            arm for its in claims() for arm in its.arms if bool(arm.row) == has and not arm.targets
        )
        for has in (True, False)
    )
    for number, arm in enumerate((ablation, plain)):
        elsewhere(tmp_path, arm, 0, 0.6, f"made-{number}", only=("val",))
    finished = FinishedRuns(tmp_path, claims())
    assert not finished.of(ablation) and len(finished.of(plain)) == 1
