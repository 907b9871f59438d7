"""Intervals against theory and SciPy, pairing against properties."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from benchmark.base.errors import UserError
from benchmark.base.rng import generator
from benchmark.evaluation import bootstrap, metrics
from tests.evaluation.tables import random_table, seeds, table_of

# --- bootstrap ------------------------------------------------------------------------------------


def test_intervals_of_one_expression_per_image_agree_with_scipy_and_normal_theory():
    stream = np.random.default_rng(1)
    union = stream.integers(100, 10_000, 400)
    records = table_of(stream.integers(0, union + 1), union)
    values, found = metrics.iou(records), bootstrap.intervals(records, resamples=8000)
    width = found["miou"].high - found["miou"].low
    theory = scipy.stats.norm.interval(0.95, values.mean(), values.std() / np.sqrt(len(values)))
    np.testing.assert_allclose(found["miou"], theory, atol=0.05 * width)

    def overall(intersection, union, axis):
        return intersection.sum(axis) / union.sum(axis)

    counts = (records["intersection"].to_numpy(), records["union"].to_numpy())
    options = {
        "paired": True,
        "n_resamples": 8000,
        "method": "percentile",
        "rng": np.random.default_rng(2),
    }
    expected = scipy.stats.bootstrap(
        counts, overall, vectorized=True, **options
    ).confidence_interval
    width = expected.high - expected.low
    np.testing.assert_allclose(found["oiou"], (expected.low, expected.high), atol=0.05 * width)


def test_repeating_every_sentence_of_an_image_leaves_its_interval():
    records = random_table(5)
    repeated = pd.concat([records] * 6, ignore_index=True)
    repeated["sent_id"] = repeated.index
    once, often = bootstrap.intervals(records), bootstrap.intervals(repeated)
    for name in metrics.expected(()):
        np.testing.assert_allclose(often[name], once[name], rtol=1e-9)
    alone = bootstrap.intervals(
        repeated.assign(image_id=repeated["sent_id"])
    )  # as if they were independent
    assert alone["miou"].high - alone["miou"].low < 0.6 * (once["miou"].high - once["miou"].low)


def test_resamples_agree_with_drawing_whole_images_one_by_one():
    records = random_table(6, images=12)
    groups = [group for _, group in records.groupby("image_id")]
    stream = generator("bootstrap")
    drawn = [[groups[number] for number in stream.integers(12, size=12)] for _ in range(40)]
    expected = pd.DataFrame([metrics.compute(pd.concat(images)) for images in drawn])
    for name, interval in bootstrap.intervals(records, resamples=40).items():
        np.testing.assert_allclose(interval, expected[name].quantile([0.025, 0.975]), rtol=1e-9)


def test_resampling_in_small_parts_gives_the_same_interval(monkeypatch):
    records = random_table(7)
    whole = bootstrap.intervals(records, resamples=101)
    monkeypatch.setattr(bootstrap, "WEIGHTS_AT_ONCE", 40 * 7)
    for name, interval in bootstrap.intervals(records, resamples=101).items():
        np.testing.assert_allclose(interval, whole[name], rtol=1e-12)


def test_the_interval_of_a_seed_mean_is_between_those_of_the_seeds():
    one, two = random_table(1), random_table(2, shift=0.05)
    lows = [bootstrap.intervals(records)["miou"].low for records in (one, two)]
    assert min(lows) < bootstrap.intervals(one, two)["miou"].low < max(lows)
    assert bootstrap.intervals(one, one) == bootstrap.intervals(one)  # (x + x) / 2 is exact


def test_one_image_has_no_interval():
    records = random_table(0).assign(image_id=7)
    assert all(
        np.isnan(end) for interval in bootstrap.intervals(records).values() for end in interval
    )
    difference = bootstrap.paired_differences({0: records}, {0: records})["miou"]
    assert difference.value == 0 and np.isnan(difference.interval.low)
    assert np.isnan(difference.estimate.image_error)


# --- pairs ----------------------------------------------------------------------------------------


def test_identical_runs_differ_by_exactly_zero():
    for difference in bootstrap.paired_differences(seeds(1, 2, 3), seeds(1, 2, 3)).values():
        assert difference.value == 0 and difference.interval == (0, 0)
        assert difference.estimate.p_value() == 1
        assert difference.per_seed == {0: 0, 1: 0, 2: 0}


def test_differences_are_paired_per_seed():
    reference, other = seeds(1, 2, 3), seeds(4, 5, 6, shift=0.02)
    found = bootstrap.paired_differences(reference, other)
    for name in metrics.expected(()):
        points = {
            seed: metrics.compute(other[seed])[name] - metrics.compute(reference[seed])[name]
            for seed in reference
        }
        assert found[name].per_seed == pytest.approx(points)
        assert found[name].value == pytest.approx(np.mean(list(points.values())))
        assert found[name].interval.low < found[name].value < found[name].interval.high


def test_a_miou_difference_is_the_bootstrap_of_the_images_seed_means():
    stream = np.random.default_rng(8)
    union = stream.integers(100, 1000, 300)
    tables = [table_of(stream.integers(0, union + 1), union) for _ in range(4)]
    found = bootstrap.paired_differences(
        dict(enumerate(tables[:2])), dict(enumerate(tables[2:])), resamples=8000
    )["miou"]
    values = np.stack([metrics.iou(table) for table in tables])
    change = values[2:].mean(0) - values[:2].mean(
        0
    )  # one expression per image: the image's seed mean
    expected = scipy.stats.bootstrap(
        (change,), np.mean, n_resamples=8000, method="percentile", rng=3
    )
    low, high = found.over_images
    atol = 0.05 * (high - low)
    np.testing.assert_allclose((low, high), expected.confidence_interval, atol=atol)
    assert found.estimate.image_error == pytest.approx(expected.standard_error, rel=0.05)


def test_pairing_removes_what_both_strategies_share():
    reference = random_table(1)
    other = reference.copy()
    more = reference["intersection"] + reference["union"] // 100
    other["intersection"] = np.minimum(more, reference["union"])
    found = bootstrap.paired_differences({0: reference}, {0: other})["miou"]
    alone = bootstrap.intervals(reference)["miou"]
    assert found.interval.low > 0
    assert found.interval.high - found.interval.low < 0.1 * (alone.high - alone.low)


def test_swapping_the_strategies_turns_the_sign():
    forth = bootstrap.paired_differences(seeds(1, 2), seeds(3, 4, shift=0.01))
    back = bootstrap.paired_differences(seeds(3, 4, shift=0.01), seeds(1, 2))
    for name in metrics.expected(()):
        assert back[name].value == pytest.approx(-forth[name].value)
        assert back[name].interval == pytest.approx(
            (-forth[name].interval.high, -forth[name].interval.low)
        )
        assert back[name].estimate.p_value() == pytest.approx(forth[name].estimate.p_value())


def test_runs_on_other_expressions_are_refused_by_name():
    whole = random_table(1)
    with pytest.raises(
        UserError,
        match=r"1 of the reference, seed 0 are missing in the other, seed 0 \(sent_id 4\)",
    ):
        bootstrap.paired_differences({0: whole}, {0: whole.drop(index=4)})
    with pytest.raises(
        UserError,
        match=r"2 of the other, seed 0 are missing in the reference, seed 0 \(sent_id 3, 5\)",
    ):
        bootstrap.paired_differences({0: whole.drop(index=[3, 5])}, {0: whole})
    moved = whole.copy()
    moved.loc[6, "image_id"] = 1000
    with pytest.raises(UserError, match="sent_id 6 has another image_id"):
        bootstrap.paired_differences({0: whole}, {0: moved})
    with pytest.raises(UserError, match="the reference has seeds 0, 1 and the other seeds 0:"):
        bootstrap.paired_differences({0: whole, 1: whole}, {0: whole})
    with pytest.raises(UserError, match="the reference has none"):
        bootstrap.paired_differences({}, {})


# --- seeds ---------------------------------------------------------------------------------


def test_spread_uses_the_sample_standard_deviation():
    assert bootstrap.spread([0.1, 0.2, 0.6]) == pytest.approx(
        (0.3, np.std([0.1, 0.2, 0.6], ddof=1), 3)
    )
    assert bootstrap.spread([0.4]) == (0.4, None, 1)
