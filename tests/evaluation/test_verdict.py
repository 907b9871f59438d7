"""The verdict holds: its error rates, simulated, and its numbers against closed forms and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmark.evaluation import verdict
from benchmark.evaluation.verdict import Estimate, holm, judge

MARGIN = 0.005
IMAGE_ERROR = 0.003


def simulate(rng, tables, rows, pairs, deviation, truth=0.0, image_error=IMAGE_ERROR):
    """Return tables of estimates. Seeds differ by `deviation` and share one error of the images."""
    shifts = truth + image_error * rng.standard_normal((tables, rows, 1))
    differences = shifts + deviation * rng.standard_normal((tables, rows, pairs))
    return [[Estimate.of(list(row), image_error) for row in table] for table in differences]


@pytest.mark.parametrize("pairs", [3, 5])
@pytest.mark.parametrize("deviation", [0.0, 0.005, 0.015])
def test_at_most_one_table_in_twenty_is_wrong(pairs, deviation):
    rng = np.random.default_rng([pairs, int(1e4 * deviation)])
    tables = simulate(rng, 2000, 6, pairs, deviation)
    wrong = sum(
        any(row.word in ("better", "worse") for row in judge(table, MARGIN)) for table in tables
    )
    # 2,000 tables have a binomial error of 0.5 points at 5 %.
    assert wrong / 2000 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize("pairs", [2, 3, 5])
@pytest.mark.parametrize("deviation", [0.0, 0.005, 0.015])
def test_the_interval_covers(pairs, deviation):
    rng = np.random.default_rng([pairs, int(1e4 * deviation), 1])
    rows = simulate(rng, 1, 4000, pairs, deviation, truth=0.02)[0]
    covered = np.mean([abs(row.value - 0.02) <= row.half_width() for row in rows])
    assert covered >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 4000)


def test_a_difference_of_two_points_is_found():
    rng = np.random.default_rng(2)
    tables = simulate(rng, 500, 1, 5, 0.005, truth=0.02)
    found = np.mean([judge(table, MARGIN)[0].word == "better" for table in tables])
    assert found > 0.9


@pytest.mark.parametrize(("pairs", "family"), [(3, 1), (3, 6), (5, 6)])
def test_the_planned_power_is_that_of_the_verdict(pairs, family):
    difference = verdict.detectable(pairs, 0.004, IMAGE_ERROR, family)
    assert verdict.power(difference, pairs, 0.004, IMAGE_ERROR, family) == pytest.approx(
        0.8, abs=1e-4
    )
    rng = np.random.default_rng([pairs, family])
    tables = simulate(rng, 3000, 1, pairs, 0.004, truth=difference)
    # The other comparisons of the family have no difference and come after this one.
    found = np.mean([judge(table, MARGIN, family)[0].word == "better" for table in tables])
    assert found == pytest.approx(0.8, abs=0.03)


def test_the_seeds_to_detect_are_the_least_that_do():
    seeds = verdict.seeds_to_detect(0.01, 0.005, 0.002, family=6)
    assert verdict.power(0.01, seeds, 0.005, 0.002, 6) >= 0.8
    assert verdict.power(0.01, seeds - 1, 0.005, 0.002, 6) < 0.8
    assert verdict.seeds_to_detect(0.004, 0.005, 0.003) is None, "too few images"


# --- closed forms ---------------------------------------------------------------------------------


def test_with_seeds_alone_it_is_the_t_test():
    differences = [0.011, 0.004, 0.013, 0.009]
    estimate = Estimate.of(differences, 0.0)
    test = stats.ttest_1samp(differences, 0)
    assert estimate.p_value() == pytest.approx(test.pvalue, rel=1e-9)
    low, high = test.confidence_interval()
    assert estimate.value - estimate.half_width() == pytest.approx(low)
    assert estimate.value + estimate.half_width() == pytest.approx(high)


def test_with_images_alone_it_is_the_z_test():
    estimate = Estimate.of([0.01, 0.01, 0.01], 0.004)
    assert estimate.p_value() == pytest.approx(2 * stats.norm.sf(0.01 / 0.004), rel=1e-9)


def test_the_p_value_is_the_level_whose_interval_ends_at_zero():
    estimate = Estimate.of([0.012, 0.002, 0.008], 0.002)
    assert estimate.half_width(estimate.p_value()) == pytest.approx(estimate.value, rel=1e-9)


def test_a_single_pair_has_no_p_value():
    assert math.isnan(Estimate.of([0.02], 0.001).p_value())


def test_no_uncertainty_and_no_difference():
    assert Estimate.of([0.0, 0.0, 0.0], 0.0).p_value() == 1
    assert Estimate.of([0.1, 0.1, 0.1], 0.0).p_value() == 0


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "image_error", "word"),
    [
        ([0.020, 0.021, 0.022], 0.001, "better"),
        ([-0.020, -0.021, -0.022], 0.001, "worse"),
        ([0.0005, 0.0004, 0.0006], 0.001, "no relevant difference"),
        ([0.020, -0.011, 0.012], 0.001, "undecided"),
        ([0.020, 0.021], 0.001, ""),
        ([0.020], 0.001, ""),
    ],
)
def test_words(differences, image_error, word):
    (found,) = judge([Estimate.of(differences, image_error)], MARGIN)
    assert found.word == word


def test_what_would_decide():
    few_seeds, few_images, two = judge(
        [
            Estimate.of([0.020, -0.011, 0.012], 0.001),
            Estimate.of([0.005, 0.004, 0.006], 0.004),
            Estimate.of([0.02, 0.02], 0.001),
        ],
        MARGIN,
    )
    seeds = int("".join(filter(str.isdigit, few_seeds.why)))
    spread = np.std([0.020, -0.011, 0.012], ddof=1)
    width = stats.t.ppf(0.975, seeds - 1) * spread / math.sqrt(seeds)
    assert math.hypot(width, 1.96 * 0.001) == pytest.approx(0.0035, rel=0.05)
    assert "too few images" in few_images.why
    assert "3 seed pairs" in two.why and math.isnan(two.p)


def test_missing_rows_of_the_family_count():
    estimate = Estimate.of([0.010, 0.012, 0.011], 0.003)
    alone = judge([estimate], MARGIN)[0]
    among = judge([estimate], MARGIN, family=20)[0]
    assert among.p == pytest.approx(min(1, 20 * alone.p))
    assert (alone.word, among.word) == ("better", "undecided")


# --- Holm -----------------------------------------------------------------------------------------


def test_holm_by_a_worked_example():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04. The last may not
    # fall below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, np.nan, 0.6]) == pytest.approx([0.02, np.nan, 0.6], nan_ok=True)
    assert holm([0.7, 0.8]) == [1, 1]
    assert holm([0.03]) == [0.03] and holm([]) == []


def test_holm_rejects_what_its_step_down_rule_rejects():
    stream = np.random.default_rng(4)
    for _ in range(50):
        values = stream.beta(0.3, 3, 8)
        rejected = set()
        for step, number in enumerate(np.argsort(values)):
            if values[number] > 0.05 / (8 - step):
                break
            rejected.add(number)
        assert {number for number, value in enumerate(holm(values)) if value <= 0.05} == rejected


def test_planned_tests_that_are_missing_count_as_one():
    assert holm([0.01, math.nan, 0.04], family=4)[::2] == pytest.approx([0.04, 0.12])
    assert holm([0.01, 0.04, 1, 1])[:2] == pytest.approx(holm([0.01, 0.04], family=4))
