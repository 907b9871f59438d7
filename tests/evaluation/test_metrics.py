"""Metrics against pycocotools and SciPy, intervals against theory, pairing and verdicts against properties."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from pycocotools import mask as coco

from benchmark.base.errors import UserError
from benchmark.base.rng import generator
from benchmark.evaluation import bootstrap, metrics
from benchmark.evaluation.records import SWAPPED, validate_records


def records_of(intersection, union, image=None, swapped=None):
    """Records from counts; by default one expression per image and no second referent anywhere."""
    rows = len(intersection)
    numbers = np.arange(rows)
    image = numbers if image is None else np.asarray(image)
    swapped_intersection, swapped_union = swapped or ([None] * rows, [None] * rows)
    return pd.DataFrame(
        {
            "image_id": image,
            "ref_id": numbers,
            "ann_id": numbers,
            "sent_id": numbers,
            "sentence": [f"thing {number}" for number in numbers],
            "intersection": np.asarray(intersection, np.int64),
            "union": np.asarray(union, np.int64),
            "swapped_intersection": pd.array(swapped_intersection, "Int64"),
            "swapped_union": pd.array(swapped_union, "Int64"),
        }
    )


def random_records(seed, images=40, most=5, shift=0.0):
    """Images with 1 .. `most` expressions, all with a swap; `shift` raises every IoU a little."""
    stream = np.random.default_rng(99)  # the same expressions whatever the predictions
    image = np.repeat(np.arange(images), stream.integers(1, most + 1, images))
    quality = stream.uniform(0.2, 0.8, images)[image]
    union = stream.integers(1, 100_000, len(image))
    noise = np.random.default_rng(seed)
    share = np.clip(quality + shift + noise.normal(0, 0.1, len(image)), 0, 1)
    worse = np.clip(share - noise.uniform(0, 0.3, len(image)), 0, 1)
    return records_of((share * union).astype(int), union, image, ((worse * union).astype(int), union))


def runs(*seeds, shift=0.0):
    return {number: random_records(seed, shift=shift) for number, seed in enumerate(seeds)}


# --- one table --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def masks():
    """Predictions, truths and predictions for another sentence, bool (30, 24, 32): boxes, the last two of them empty."""
    stream = np.random.default_rng(0)
    drawn = np.zeros((3, 30, 24, 32), bool)
    for mask in drawn[:, :28].reshape(-1, 24, 32):
        (top, bottom), (left, right) = np.sort(stream.integers(0, 24, 2)), np.sort(stream.integers(0, 32, 2))
        mask[top : bottom + 1, left : right + 1] = True
    drawn[0, 10:20] = drawn[1, 10:20]
    drawn[0, 10:20, ::5] = False
    return drawn


@pytest.fixture(scope="module")
def mask_records(masks):
    predicted, truth, other = masks.reshape(3, 30, -1)
    counts = [((one & truth).sum(1), (one | truth).sum(1)) for one in (predicted, other)]
    return records_of(*counts[0], image=np.arange(30) // 3, swapped=counts[1])


def coco_iou(one, two):
    encode = [[coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks] for masks in (one, two)]
    return np.diag(coco.iou(*encode, [False] * len(two)))


def test_metrics_agree_with_pycocotools(masks, mask_records):
    predicted, truth, other = masks
    expected, swapped = coco_iou(predicted, truth), coco_iou(other, truth)
    np.testing.assert_allclose(metrics.iou(mask_records), expected, rtol=1e-12)
    numbers = metrics.metrics(mask_records)
    assert list(numbers) == ["oiou", "miou", "p_50", "p_60", "p_70", "p_80", "p_90", "grounding_gap"]
    assert numbers["miou"] == pytest.approx(expected.mean())
    assert numbers["grounding_gap"] == pytest.approx(expected.mean() - swapped.mean())
    for percent in (50, 60, 70, 80, 90):
        assert numbers[f"p_{percent}"] == pytest.approx((expected >= percent / 100).mean())
    one, two = (coco.encode(np.asfortranarray(stack.reshape(-1, 1).astype(np.uint8))) for stack in (predicted, truth))
    assert numbers["oiou"] == pytest.approx(coco.iou([one], [two], [False]).item())  # all images as one


@pytest.mark.parametrize("tenths", [5, 6, 7, 8, 9])
def test_precision_counts_an_iou_that_equals_the_threshold(tenths):
    scales = np.array([1, 3, 7, 11, 123, 307_200])
    at = records_of(tenths * scales, 10 * scales)
    below = records_of(tenths * scales * 1000 - 1, 10 * scales * 1000)
    assert metrics.metrics(at)[f"p_{tenths}0"] == 1
    assert metrics.metrics(below)[f"p_{tenths}0"] == 0


def test_an_empty_union_is_an_iou_of_zero():
    assert metrics.metrics(records_of([0, 0], [0, 0])) == pytest.approx(
        dict.fromkeys(metrics.METRICS, 0) | {"grounding_gap": np.nan}, nan_ok=True
    )
    numbers = metrics.metrics(records_of([0, 4], [0, 4]))
    assert (numbers["oiou"], numbers["miou"], numbers["p_50"], numbers["p_90"]) == (1, 0.5, 0.5, 0.5)


def test_no_expression_has_no_number():
    assert all(np.isnan(value) for value in metrics.metrics(random_records(0).iloc[:0]).values())


def test_grounding_gap_is_over_the_expressions_that_have_a_swap():
    records = records_of([9, 5, 1], [10, 10, 10], swapped=([1, None, 0], [10, None, 0]))
    assert metrics.metrics(records)["grounding_gap"] == pytest.approx((0.9 + 0.1) / 2 - (0.1 + 0) / 2)
    assert np.isnan(metrics.metrics(records_of([9], [10]))["grounding_gap"])


def test_a_network_that_ignores_text_has_a_grounding_gap_of_exactly_zero():
    records = random_records(0)
    records["swapped_intersection"], records["swapped_union"] = records["intersection"], records["union"]
    assert metrics.metrics(records)["grounding_gap"] == 0
    assert bootstrap.intervals(records, resamples=50)["grounding_gap"] == (0, 0)


def test_missing_swaps_survive_parquet_and_float_columns(tmp_path):
    records = records_of([9, 5], [10, 10], image=[0, 0], swapped=([1, None], [10, None]))
    records.to_parquet(tmp_path / "val.parquet", index=False)
    floats = records.astype({name: "float64" for name in SWAPPED})
    for same in (pd.read_parquet(tmp_path / "val.parquet"), floats):
        validate_records(same)
        assert metrics.metrics(same) == metrics.metrics(records)


def test_the_order_of_rows_changes_no_bit():
    records = random_records(3)
    shuffled = records.sample(frac=1, random_state=0)
    assert metrics.metrics(shuffled) == metrics.metrics(records)
    assert bootstrap.intervals(shuffled, resamples=50) == bootstrap.intervals(records, resamples=50)


# --- bootstrap --------------------------------------------------------------------------------------------------------


def test_intervals_of_one_expression_per_image_agree_with_scipy_and_normal_theory():
    stream = np.random.default_rng(1)
    union = stream.integers(100, 10_000, 400)
    records = records_of(stream.integers(0, union + 1), union)
    values, found = metrics.iou(records), bootstrap.intervals(records, resamples=8000)
    width = found["miou"].high - found["miou"].low
    theory = scipy.stats.norm.interval(0.95, values.mean(), values.std() / np.sqrt(len(values)))
    np.testing.assert_allclose(found["miou"], theory, atol=0.05 * width)

    def overall(intersection, union, axis):
        return intersection.sum(axis) / union.sum(axis)

    counts = (records["intersection"].to_numpy(), records["union"].to_numpy())
    options = {"paired": True, "n_resamples": 8000, "method": "percentile", "rng": np.random.default_rng(2)}
    expected = scipy.stats.bootstrap(counts, overall, vectorized=True, **options).confidence_interval
    width = expected.high - expected.low
    np.testing.assert_allclose(found["oiou"], (expected.low, expected.high), atol=0.05 * width)


def test_repeating_every_sentence_of_an_image_leaves_its_interval():
    records = random_records(5)
    repeated = pd.concat([records] * 6, ignore_index=True)
    repeated["sent_id"] = repeated.index
    once, often = bootstrap.intervals(records), bootstrap.intervals(repeated)
    for name in metrics.METRICS:
        np.testing.assert_allclose(often[name], once[name], rtol=1e-9)
    alone = bootstrap.intervals(repeated.assign(image_id=repeated["sent_id"]))  # as if they were independent
    assert alone["miou"].high - alone["miou"].low < 0.6 * (once["miou"].high - once["miou"].low)


def test_resamples_agree_with_drawing_whole_images_one_by_one():
    records = random_records(6, images=12)
    groups = [group for _, group in records.groupby("image_id")]
    stream = generator("bootstrap")
    drawn = [[groups[number] for number in stream.integers(12, size=12)] for _ in range(40)]
    expected = pd.DataFrame([metrics.metrics(pd.concat(images)) for images in drawn])
    for name, interval in bootstrap.intervals(records, resamples=40).items():
        np.testing.assert_allclose(interval, expected[name].quantile([0.025, 0.975]), rtol=1e-9)


def test_resampling_in_small_parts_gives_the_same_interval(monkeypatch):
    records = random_records(7)
    whole = bootstrap.intervals(records, resamples=101)
    monkeypatch.setattr(bootstrap, "WEIGHTS_AT_ONCE", 40 * 7)
    for name, interval in bootstrap.intervals(records, resamples=101).items():
        np.testing.assert_allclose(interval, whole[name], rtol=1e-12)


def test_the_interval_of_a_seed_mean_is_between_those_of_the_seeds():
    one, two = random_records(1), random_records(2, shift=0.05)
    lows = [bootstrap.intervals(records)["miou"].low for records in (one, two)]
    assert min(lows) < bootstrap.intervals(one, two)["miou"].low < max(lows)
    assert bootstrap.intervals(one, one) == bootstrap.intervals(one)  # (x + x) / 2 is exact


def test_one_image_has_no_interval():
    records = random_records(0).assign(image_id=7)
    assert all(np.isnan(end) for interval in bootstrap.intervals(records).values() for end in interval)
    difference = bootstrap.paired_differences({0: records}, {0: records})["miou"]
    assert difference.value == 0 and np.isnan(difference.p_value)
    assert bootstrap.verdict([0.1, 0.2, 0.3], difference.interval) == "undecided"


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_identical_runs_differ_by_exactly_zero():
    for difference in bootstrap.paired_differences(runs(1, 2, 3), runs(1, 2, 3)).values():
        assert difference.value == 0 and difference.interval == (0, 0) and difference.p_value == 1
        assert difference.per_seed == {0: 0, 1: 0, 2: 0}


def test_differences_are_paired_per_seed():
    baseline, maskris = runs(1, 2, 3), runs(4, 5, 6, shift=0.02)
    found = bootstrap.paired_differences(baseline, maskris)
    for name in metrics.METRICS:
        points = {
            seed: metrics.metrics(maskris[seed])[name] - metrics.metrics(baseline[seed])[name] for seed in baseline
        }
        assert found[name].per_seed == pytest.approx(points)
        assert found[name].value == pytest.approx(np.mean(list(points.values())))
        assert found[name].interval.low < found[name].value < found[name].interval.high


def test_a_miou_difference_is_the_bootstrap_of_the_images_seed_means():
    stream = np.random.default_rng(8)
    union = stream.integers(100, 1000, 300)
    tables = [records_of(stream.integers(0, union + 1), union) for _ in range(4)]
    found = bootstrap.paired_differences(dict(enumerate(tables[:2])), dict(enumerate(tables[2:])), resamples=8000)[
        "miou"
    ]
    values = np.stack([metrics.iou(table) for table in tables])
    change = values[2:].mean(0) - values[:2].mean(0)  # one expression per image: the image's seed mean
    expected = scipy.stats.bootstrap((change,), np.mean, n_resamples=8000, method="percentile", rng=3)
    width = found.interval.high - found.interval.low
    np.testing.assert_allclose(found.interval, expected.confidence_interval, atol=0.05 * width)
    assert found.p_value == pytest.approx(scipy.stats.ttest_1samp(change, 0).pvalue, abs=0.03)


def test_pairing_removes_what_both_strategies_share():
    baseline = random_records(1)
    maskris = baseline.copy()
    maskris["intersection"] = np.minimum(baseline["intersection"] + baseline["union"] // 100, baseline["union"])
    found, alone = (
        bootstrap.paired_differences({0: baseline}, {0: maskris})["miou"],
        bootstrap.intervals(baseline)["miou"],
    )
    assert found.interval.low > 0
    assert found.interval.high - found.interval.low < 0.1 * (alone.high - alone.low)
    assert found.p_value == pytest.approx(2 / (bootstrap.RESAMPLES + 1))


def test_swapping_the_strategies_turns_the_sign():
    forth = bootstrap.paired_differences(runs(1, 2), runs(3, 4, shift=0.01))
    back = bootstrap.paired_differences(runs(3, 4, shift=0.01), runs(1, 2))
    for name in metrics.METRICS:
        assert back[name].value == pytest.approx(-forth[name].value)
        assert back[name].interval == pytest.approx((-forth[name].interval.high, -forth[name].interval.low))
        assert back[name].p_value == forth[name].p_value


def test_runs_on_other_expressions_are_refused_by_name():
    whole = random_records(1)
    with pytest.raises(UserError, match=r"1 of baseline seed 0 are missing in maskris seed 0 \(sent_id 4\)"):
        bootstrap.paired_differences({0: whole}, {0: whole.drop(index=4)})
    with pytest.raises(UserError, match=r"2 of maskris seed 0 are missing in baseline seed 0 \(sent_id 3, 5\)"):
        bootstrap.paired_differences({0: whole.drop(index=[3, 5])}, {0: whole})
    moved = whole.copy()
    moved.loc[6, "image_id"] = 1000
    with pytest.raises(UserError, match="sent_id 6 has another image_id"):
        bootstrap.paired_differences({0: whole}, {0: moved})
    with pytest.raises(UserError, match="the baseline has seeds 0, 1 and MaskRIS seeds 0;"):
        bootstrap.paired_differences({0: whole, 1: whole}, {0: whole})
    with pytest.raises(UserError, match="the baseline has none"):
        bootstrap.paired_differences({}, {})


# --- many numbers -----------------------------------------------------------------------------------------------------


def test_holm_by_a_worked_example():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04; the last may not fall below 0.06.
    assert bootstrap.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert bootstrap.holm([0.01, np.nan, 0.6]) == pytest.approx([0.02, np.nan, 0.6], nan_ok=True)
    assert bootstrap.holm([0.7, 0.8]) == [1, 1]
    assert bootstrap.holm([0.03]) == [0.03] and bootstrap.holm([]) == []


def test_holm_rejects_what_its_step_down_rule_rejects():
    stream = np.random.default_rng(4)
    for _ in range(50):
        values = stream.beta(0.3, 3, 8)
        rejected = set()
        for step, number in enumerate(np.argsort(values)):
            if values[number] > 0.05 / (8 - step):
                break
            rejected.add(number)
        assert {number for number, value in enumerate(bootstrap.holm(values)) if value <= 0.05} == rejected


def test_summary_uses_the_sample_standard_deviation():
    assert bootstrap.summary([0.1, 0.2, 0.6]) == pytest.approx((0.3, np.std([0.1, 0.2, 0.6], ddof=1), 3))
    assert bootstrap.summary([0.4]) == (0.4, None, 1)


@pytest.mark.parametrize(
    ("per_seed", "interval", "expected"),
    [
        ([0.1, 0.2, 0.3], (0.05, 0.4), "confirmed"),
        ([-0.1, -0.2, -0.3], (-0.4, -0.05), "contradicted"),
        ([0.1, 0.2], (0.05, 0.4), "undecided"),  # two pairs
        ([0.1, 0.2, -0.01], (0.05, 0.4), "undecided"),  # signs differ
        ([0.1, 0.2, 0.0], (0.05, 0.4), "undecided"),
        ([0.1, 0.2, 0.3], (0.0, 0.4), "undecided"),  # touches zero
        ([0.1, 0.2, 0.3], (-0.1, 0.4), "undecided"),
        ([0.1, 0.2, 0.3], (-0.4, -0.1), "undecided"),
        ([], (0.1, 0.2), "undecided"),
    ],
)
def test_verdict(per_seed, interval, expected):
    assert bootstrap.verdict(per_seed, interval) == expected


# --- damaged records --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("intersection", -1, r"column intersection is negative in row 2 \(sent_id 2\)"),
        ("union", 1, r"intersection exceeds union in row 2"),
        ("swapped_union", 1, r"swapped_intersection exceeds swapped_union in row 2"),
        ("swapped_union", None, r"only one of swapped_intersection and swapped_union is there in row 2"),
        ("sent_id", 0, r"a sent_id stands there for the second time in row 2 \(sent_id 0\)"),
        ("sentence", None, r"column sentence holds no text in row 2"),
    ],
)
def test_a_damaged_row_is_named(column, value, message):
    records = records_of([5] * 4, [9] * 4, swapped=([3] * 4, [9] * 4))
    validate_records(records)
    records.loc[2, column] = value
    with pytest.raises(UserError, match=f"^val.parquet is damaged: {message}"):
        validate_records(records, "val.parquet")


def test_a_damaged_table_is_named():
    records = random_records(0)
    for damaged, message in (
        (records.drop(columns=["union", "ann_id"]), "no column ann_id and no column union"),
        (records.iloc[:0], "holds no expression"),
        (records.astype({"union": "float64"}), "column union holds float64 and not whole numbers"),
        (records.astype({"swapped_union": "str"}), "column swapped_union holds str"),
        (records.assign(swapped_union=records["swapped_union"].astype(float) + 0.5), "swapped_union is not a whole"),
        (
            records.assign(union=records["union"].astype("Int64").where(records["sent_id"] != 3)),
            "union is empty in row 3",
        ),
    ):
        with pytest.raises(UserError, match=message):
            validate_records(damaged)
