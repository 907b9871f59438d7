"""Metrics against pycocotools, against the numbers before there was a registry, and as plugins."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco

from benchmark.base.errors import UserError
from benchmark.evaluation import bootstrap, metrics
from benchmark.evaluation.metrics import Metric
from benchmark.evaluation.records import SWAPPED, validate_records
from tests.evaluation.plugins import NO_TARGET, PLUGIN, SHIPPED
from tests.evaluation.tables import random_table, seeds, table_of

NUMBERS = json.loads((Path(__file__).parent / "fixtures" / "numbers.json").read_text())

# --- values ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def masks():
    """Predictions, truths and predictions for another sentence, bool (30, 24, 32): boxes, the last
    two of them empty.
    """
    stream = np.random.default_rng(0)
    drawn = np.zeros((3, 30, 24, 32), bool)
    for mask in itertools.chain.from_iterable(drawn[:, :28]):
        (top, bottom), (left, right) = (np.sort(stream.integers(0, side, 2)) for side in (24, 32))
        mask[top : bottom + 1, left : right + 1] = True
    drawn[0, 10:20] = drawn[1, 10:20]
    drawn[0, 10:20, ::5] = False
    return drawn


@pytest.fixture(scope="module")
def table(masks):
    predicted, truth, other = masks.reshape(3, 30, -1)
    counts = [((one & truth).sum(1), (one | truth).sum(1)) for one in (predicted, other)]
    return table_of(*counts[0], image=np.arange(30) // 3, swapped=counts[1])


def encoded(mask):
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


def coco_iou(one, two):
    return np.diag(
        coco.iou(*([encoded(mask) for mask in part] for part in (one, two)), [False] * len(two))
    )


def test_metrics_agree_with_pycocotools(masks, table):
    predicted, truth, other = masks
    expected, swapped = coco_iou(predicted, truth), coco_iou(other, truth)
    np.testing.assert_allclose(metrics.iou(table), expected, rtol=1e-12)
    numbers = metrics.compute(table)
    assert list(numbers) == SHIPPED
    assert numbers["miou"] == pytest.approx(expected.mean())
    assert numbers["grounding_gap"] == pytest.approx(expected.mean() - swapped.mean())
    for percent in (50, 60, 70, 80, 90):
        assert numbers[f"p_{percent}"] == pytest.approx((expected >= percent / 100).mean())
    one, two = (encoded(stack.reshape(-1, 1)) for stack in (predicted, truth))  # all images as one
    assert numbers["oiou"] == pytest.approx(coco.iou([one], [two], [False]).item())
    assert numbers["oiou"] > 0.1


@pytest.mark.parametrize("tenths", [5, 6, 7, 8, 9])
def test_precision_counts_an_iou_that_equals_the_threshold(tenths):
    scales = np.array([1, 3, 7, 11, 123, 307_200])
    at = table_of(tenths * scales, 10 * scales)
    below = table_of(tenths * scales * 1000 - 1, 10 * scales * 1000)
    assert metrics.compute(at)[f"p_{tenths}0"] == 1
    assert metrics.compute(below)[f"p_{tenths}0"] == 0


def test_an_empty_union_is_an_iou_of_zero():
    assert metrics.compute(table_of([0, 0], [0, 0])) == pytest.approx(
        dict.fromkeys(SHIPPED, 0) | {"grounding_gap": np.nan}, nan_ok=True
    )
    numbers = metrics.compute(table_of([0, 4], [0, 4]))
    assert numbers["oiou"] == 1
    assert numbers["miou"] == numbers["p_50"] == numbers["p_90"] == 0.5


def test_no_expression_has_no_number():
    numbers = metrics.compute(random_table(0).iloc[:0])
    assert list(numbers) == SHIPPED and all(np.isnan(value) for value in numbers.values())


def test_grounding_gap_is_over_the_expressions_that_have_a_swap():
    table = table_of([9, 5, 1], [10, 10, 10], swapped=([1, None, 0], [10, None, 0]))
    gap = metrics.compute(table)["grounding_gap"]
    assert gap == pytest.approx((0.9 + 0.1) / 2 - (0.1 + 0) / 2)
    assert np.isnan(metrics.compute(table_of([9], [10]))["grounding_gap"])


def test_a_network_that_ignores_text_has_a_grounding_gap_of_exactly_zero():
    table = random_table(0)
    for swapped, own in zip(SWAPPED, ("intersection", "union"), strict=True):
        table[swapped] = table[own]
    assert metrics.compute(table)["grounding_gap"] == 0
    assert bootstrap.intervals(table, resamples=50)["grounding_gap"] == (0, 0)


def test_missing_swaps_survive_parquet_and_float_columns(tmp_path):
    table = table_of([9, 5], [10, 10], image=[0, 0], swapped=([1, None], [10, None]))
    table.to_parquet(tmp_path / "val.parquet", index=False)
    floats = table.astype({name: "float64" for name in SWAPPED})
    for same in (pd.read_parquet(tmp_path / "val.parquet"), floats):
        validate_records(same)
        assert metrics.compute(same) == metrics.compute(table)


def test_the_order_of_rows_changes_no_bit():
    table = random_table(3)
    shuffled = table.sample(frac=1, random_state=0)
    assert metrics.compute(shuffled) == metrics.compute(table)
    once, again = (bootstrap.intervals(rows, resamples=50) for rows in (table, shuffled))
    assert once == again


# --- expressions without a target -----------------------------------------------------------------


@pytest.fixture(scope="module")
def generalized(masks):
    """The masks, of which every third expression has no target, and their records."""
    predicted, truth = masks[:2].copy()
    truth[::3] = False
    predicted[::6] = False  # half of these are right
    predicted[1::7] = False  # and some that have a target are missed
    one, two = predicted.reshape(30, -1), truth.reshape(30, -1)
    table = table_of((one & two).sum(1), (one | two).sum(1), image=np.arange(30) // 3)
    table["target_pixels"] = two.sum(1)
    table.loc[::3, "ann_id"] = -1
    return predicted, truth, table


def test_metrics_of_gres_are_as_the_paper_defines_them(generalized):
    """One expression at a time, as in Sec. 5 of the paper."""
    predicted, truth, table = generalized
    ious, intersection, union = [], 0, 0
    rejected, without, found, with_target = 0, 0, 0, 0
    for number, (mask, target) in enumerate(zip(predicted, truth, strict=True)):
        inside, either = (mask & target).sum(), (mask | target).sum()
        intersection, union = intersection + inside, union + either
        if number % 3 == 0:
            without += 1
            rejected += not mask.any()
            ious.append(0.0 if mask.any() else 1.0)
        else:
            with_target += 1
            found += bool(mask.any())
            ious.append(inside / either if either else 0.0)
    numbers = metrics.compute(table)
    assert list(numbers) == [*SHIPPED, *NO_TARGET]
    assert 0 < rejected < without and 0 < found < with_target
    assert numbers["giou"] == pytest.approx(np.mean(ious)) != numbers["miou"]
    assert numbers["n_acc"] == pytest.approx(rejected / without)
    assert numbers["t_acc"] == pytest.approx(found / with_target)
    assert numbers["oiou"] == pytest.approx(intersection / union), "which is their cIoU"


def test_one_pixel_is_not_empty():
    table = table_of([0, 1], [1, 50]).assign(ann_id=[-1, 7], target_pixels=[0, 50])
    numbers = metrics.compute(table)
    assert (numbers["n_acc"], numbers["t_acc"]) == (0, 1)


def test_metrics_of_gres_have_intervals_and_paired_differences(generalized):
    table = generalized[2]
    intervals = bootstrap.intervals(table, resamples=200)
    numbers = metrics.compute(table)
    for name in NO_TARGET:
        assert intervals[name].low < numbers[name] < intervals[name].high
    # Nothing is predicted at all in the other run.
    nothing = table.assign(intersection=0, union=table["target_pixels"])
    paired = bootstrap.paired_differences({0: table}, {0: nothing}, resamples=50)
    assert paired["n_acc"].value == pytest.approx(1 - numbers["n_acc"])
    assert paired["t_acc"].value == pytest.approx(-numbers["t_acc"])
    assert paired["giou"].value == pytest.approx(1 / 3 - numbers["giou"])


def test_records_whose_expressions_all_have_a_target_have_no_metrics_of_gres(generalized):
    table = generalized[2]
    whole = table[table["ann_id"] != -1]
    assert list(metrics.compute(whole)) == list(bootstrap.intervals(whole, resamples=9)) == SHIPPED
    # An annotation without a pixel is a target all the same.
    assert list(metrics.compute(whole.assign(target_pixels=0, intersection=0))) == SHIPPED
    assert metrics.expected(["n_acc", "miou"]) == [*SHIPPED, "n_acc"]
    with pytest.raises(UserError, match="gIoU is not defined here"):
        bootstrap.intervals(whole, names=["giou"])


# --- the numbers of earlier code ------------------------------------------------------------------


def pinned_table(name):
    return pd.DataFrame(NUMBERS["tables"][name]).astype(dict.fromkeys(SWAPPED, "Int64"))


def floats(values):
    return [float.fromhex(value) for value in values]


@pytest.mark.parametrize("name", NUMBERS["tables"])
def test_metrics_are_bit_for_bit_those_before_the_registry(name):
    pinned = {metric: float.fromhex(value) for metric, value in NUMBERS["metrics"][name].items()}
    assert metrics.compute(pinned_table(name)) == pinned


def test_intervals_and_differences_are_those_before_the_registry():
    """Bit for bit where sums are whole numbers. BLAS may add IoUs in another order elsewhere."""
    baseline, maskris = (
        {seed: pinned_table(f"{name}_{seed}") for seed in (0, 1)}
        for name in ("baseline", "maskris")
    )

    def same(metric, values, pinned):
        if metric in ("miou", "grounding_gap"):
            np.testing.assert_allclose(values, floats(pinned), rtol=1e-12, atol=1e-15)
        else:
            assert [*values] == floats(pinned)

    for name, tables in (("baseline", baseline), ("maskris", maskris)):
        for metric, interval in bootstrap.intervals(*tables.values(), resamples=300).items():
            same(metric, interval, NUMBERS["intervals"][name][metric])
    for metric, its in bootstrap.paired_differences(baseline, maskris, resamples=300).items():
        pinned = NUMBERS["differences"][metric]
        same(metric, its.over_images, pinned["interval"])
        assert [its.value] == pytest.approx(floats([pinned["value"]]), abs=1e-15)
        assert [*its.per_seed.values()] == floats(pinned["per_seed"].values())


# --- the registry ---------------------------------------------------------------------------------


def test_shipped_metrics_are_described():
    assert metrics.names() == [*SHIPPED, *NO_TARGET]
    headings = ["oIoU", "mIoU", "P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9", "gap"]
    headings += ["gIoU", "N-acc", "T-acc"]
    for name, heading in zip(metrics.names(), headings, strict=True):
        metric = metrics.get(name)
        assert metric.name == name and metric.heading == heading
        assert metric.described_by.startswith(heading) and metric.described_by.endswith(".")
        assert metric.unit == "percent" and metric.factor == 100 and metric.higher_is_better
    assert [metric.name for metric in metrics.judged()] == ["oiou", "miou", "giou"]


def test_plugins_come_after_the_shipped_ones_by_name(plugin):
    assert metrics.names() == [*SHIPPED, *NO_TARGET, "anything", "boundary", "zero"]
    assert metrics.get("zero").factor == 1
    with pytest.raises(UserError, match="metric 'boundry' is not known: did you mean boundary"):
        metrics.get("boundry")


def test_a_further_metric_changes_no_bit_of_the_others(plugin, monkeypatch):
    tables = seeds(1, 2)
    with_it = metrics.compute(tables[0]), bootstrap.intervals(*tables.values())
    differences = bootstrap.paired_differences({0: tables[0]}, {0: tables[1]})
    monkeypatch.delenv("RISBENCH_PLUGINS")
    without = metrics.compute(tables[0]), bootstrap.intervals(*tables.values())
    assert "zero" in with_it[0] and "zero" in with_it[1] and "zero" not in without[0]
    for more, fewer in zip(with_it, without, strict=True):
        assert {name: more[name] for name in fewer} == fewer
    for name, difference in bootstrap.paired_differences({0: tables[0]}, {0: tables[1]}).items():
        assert differences[name] == difference


def test_metrics_whose_columns_are_missing_are_not_recorded(plugin):
    old = random_table(0)
    assert metrics.available(old) == [*SHIPPED, "zero"] == [*metrics.compute(old)]
    new = old.assign(edge_intersection=1, edge_union=2)
    assert metrics.available(new) == [*SHIPPED, "boundary", "zero"]
    newest = new.assign(target_pixels=new["intersection"])
    assert metrics.available(newest) == [*SHIPPED, "anything", "boundary", "zero"]
    assert metrics.available(newest) == metrics.expected(())
    assert metrics.available(newest, old) == metrics.available(old), "every table must have it"
    assert [*bootstrap.intervals(newest, old, resamples=20)] == metrics.available(old)


def test_a_named_metric_that_is_not_recorded_is_refused(plugin):
    table = random_table(0)
    assert [*bootstrap.intervals(table, resamples=20, names=["zero", "miou"])] == ["zero", "miou"]
    whole = bootstrap.intervals(table, resamples=20)
    assert bootstrap.intervals(table, resamples=20, names=["miou"])["miou"] == whole["miou"]
    with pytest.raises(UserError, match="boundary IoU is not recorded here"):
        bootstrap.intervals(table, names=["miou", "boundary"])
    with pytest.raises(UserError, match="metric 'mioo' is not known: did you mean miou"):
        bootstrap.intervals(table, resamples=20, names=["mioo"])


def test_a_metric_has_the_name_of_its_registration(tmp_path, monkeypatch):
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN.replace('"zero": "ZERO"', '"nothing": "ZERO"'))
    monkeypatch.setenv("RISBENCH_PLUGINS", str(path))
    with pytest.raises(UserError, match="the metric 'nothing' is called 'zero' in its Metric"):
        metrics.get("nothing")


def test_the_value_of_an_empty_denominator_is_the_metrics_own():
    nothing = np.zeros((2, 2))
    chosen = [
        Metric(name="x", heading="x", described_by="x.", top=metrics.iou),
        Metric(name="y", heading="y", described_by="y.", top=metrics.iou, empty=0.25),
    ]
    np.testing.assert_equal(metrics.ratios(nothing, chosen), [np.nan, 0.25])


def test_numbers_are_had_without_torch():
    code = (
        "import sys; from benchmark.evaluation import bootstrap, metrics, records;"
        " metrics.get('miou'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
