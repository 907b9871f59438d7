"""Robustness numbers against pandas and published arithmetic."""

import numpy as np
import pandas as pd
import pytest

from benchmark.base.rng import generator
from benchmark.evaluation import metrics
from benchmark.robustness import corruptions
from benchmark.robustness.covered_words import CoveredWords, read_covered
from benchmark.runs.rundir import RunDir
from reports.robustness.quantities import error_ratio, mean_of, quantities
from tests.evaluation.tables import random_table
from tests.reports.fakes import make_records, pick
from tests.reports.robustness.runs import CONDITIONS, of, oiou


def test_every_condition_is_a_ratio_of_sums(evaluated, found):
    _, table = found
    for condition in CONDITIONS:
        name, _, level = str(condition).rpartition("-")
        for strategy, label in (("baseline", "baseline"), ("maskris", "+MaskRIS")):
            row = pick(table, name=name, level=int(level), strategy=label, metric="oiou")
            expected = [oiou(records) for records in of(evaluated, strategy, condition)]
            assert row["points"] == pytest.approx(expected)
            assert row["mean"] == pytest.approx(np.mean(expected))
            assert row["deviation"] == pytest.approx(np.std(expected, ddof=1))
            assert row["low"] < row["mean"] < row["high"]


def test_mpc_rpc_and_families(evaluated, found):
    _, table = found
    common = CONDITIONS[:4]
    for metric, score in (("oiou", oiou), ("miou", lambda records: metrics.iou(records).mean())):
        mpc = {
            s: np.array([[score(r) for r in of(evaluated, s, its)] for its in common]).mean(0)
            for s in ("baseline", "maskris")
        }
        clean = pick(table, kind="clean", strategy="baseline", metric=metric)["points"]
        row = pick(table, name="mpc", strategy="baseline", metric=metric)
        assert row["points"] == pytest.approx(mpc["baseline"]), "saturate is none of the common 15"
        assert pick(table, name="rpc", strategy="baseline", metric=metric)[
            "points"
        ] == pytest.approx(mpc["baseline"] / clean)
        apart = pick(table, name="mpc", strategy="+MaskRIS", metric=metric)
        assert apart["differences"] == pytest.approx(mpc["maskris"] - mpc["baseline"])
        judged = "chosen on" if metric == "oiou" else ""
        assert apart["verdict"] == judged and apart["compared"] == "3 seed pairs"
    weather = np.mean([[oiou(r) for r in of(evaluated, "baseline", its)] for its in common[:3]])
    assert pick(table, kind="family", name="weather", strategy="baseline", metric="oiou")[
        "mean"
    ] == pytest.approx(weather)
    assert pick(table, kind="family", name="noise", strategy="baseline", metric="oiou")[
        "mean"
    ] == pytest.approx(np.mean([oiou(r) for r in of(evaluated, "baseline", common[3])]))
    fog = np.mean([[oiou(r) for r in of(evaluated, "baseline", its)] for its in common[:2]])
    assert pick(table, kind="corruption mean", name="fog", strategy="baseline", metric="oiou")[
        "mean"
    ] == pytest.approx(fog)


@pytest.mark.parametrize(("clean", "mpc", "rpc"), [(37.3, 18.7, 50.1), (34.2, 16.8, 49.1)])
def test_the_arithmetic_is_that_of_the_coco_benchmark(clean, mpc, rpc):
    """Michaelis et al. (2019), Mask R-CNN R50: P, mPC and rPC of box and mask AP."""
    draw = np.random.default_rng(0)
    names = [
        f"{name}-{severity}"
        for name in corruptions.sets()["common"]
        for severity in corruptions.SEVERITIES
    ]
    scores = draw.normal(size=len(names))
    scores += mpc - scores.mean()
    found = mean_of([np.full((1, 2, 1), score / 100) for score in scores])
    assert len(names) == 75 and round(100 * float(found[0, 0, 0]), 1) == mpc
    assert round(float(100 * (found / (clean / 100))[0, 0, 0]), 1) == rpc


def test_corruption_errors_are_relative_to_the_reference(evaluated, found):
    _, table = found
    for name in ("corruption_error", "relative_corruption_error"):
        points = pick(table, name=name, strategy="baseline", metric="oiou")["points"]
        assert points[0] == pytest.approx(1), "the reference itself"
    mine, its = (
        {str(c): oiou(of(evaluated, s, c)[0]) for c in CONDITIONS[:4]}
        for s in ("maskris", "baseline")
    )
    clean = {
        label: pick(table, kind="clean", strategy=label, metric="oiou")["points"][0]
        for label in ("baseline", "+MaskRIS")
    }
    by_corruption = [("fog-1", "fog-5"), ("snow-3",), ("shot_noise-2",)]
    plain = np.mean(
        [
            sum(1 - mine[n] for n in names) / sum(1 - its[n] for n in names)
            for names in by_corruption
        ]
    )
    lost = np.mean(
        [
            sum(clean["+MaskRIS"] - mine[n] for n in names)
            / sum(clean["baseline"] - its[n] for n in names)
            for names in by_corruption
        ]
    )
    row = pick(table, name="corruption_error", strategy="+MaskRIS", metric="oiou")
    assert row["points"][0] == pytest.approx(plain)
    row = pick(table, name="relative_corruption_error", strategy="+MaskRIS", metric="oiou")
    assert row["points"][0] == pytest.approx(lost)
    flat = {"clean": np.full((1, 2, 1), 0.5), "fog-1": np.full((1, 2, 1), 0.6)}
    assert np.isnan(error_ratio(flat, flat, {"fog": ["fog-1"]}, relative=True)).all(), (
        "it lost nothing"
    )


def test_intervals_of_means_are_of_one_draw_of_images(evaluated):
    tables = [records for its in CONDITIONS[:4] for records in of(evaluated, "baseline", its)[:1]]
    drawn = quantities(tables, ["oiou", "miou"], resamples=300)
    images = tables[0]["image_id"].nunique()

    stream = generator("bootstrap")
    for resample, chosen in enumerate(stream.integers(images, size=(300, images))[:5]):
        parts = [
            pd.concat([table[table["image_id"] == image] for image in chosen]) for table in tables
        ]
        expected = np.mean([oiou(part) for part in parts])
        assert drawn[:, 0, 1 + resample].mean() == pytest.approx(expected), (
            "the same images under all conditions"
        )


def test_one_image_has_no_interval():
    records = make_records(np.random.default_rng(0), images=1)
    drawn = quantities([records], ["oiou", "miou"])
    assert np.isnan(drawn[..., 1:]).all() and not np.isnan(drawn[..., 0]).any()


def test_language_subsets_are_counted_and_come_from_the_clean_records(evaluated, found):
    _, table = found
    runs, specs = evaluated
    records = [RunDir(runs / spec.key).records("val") for spec in specs[:3]]
    for name, sentence in (
        ("colour", ("red box", "not blue")),
        ("position", ("box on the left",)),
        ("negation", ("not blue",)),
    ):
        row = pick(table, kind="language", name=name, strategy="baseline", metric="oiou")
        kept = [its[its["sentence"].isin(sentence)] for its in records]
        assert row["expressions"] == len(kept[0]) and row["points"] == pytest.approx(
            [oiou(its) for its in kept]
        )
    assert not (table["name"] == "number").any(), "an empty subset has no row"


def test_covered_words_are_compared_with_their_own_sentences(evaluated, found):
    _, table = found
    runs, specs = evaluated
    plain = RunDir(runs / specs[0].key).records("val")
    row = pick(table, kind="word", name="colour", strategy="baseline", metric="oiou")
    own = plain[plain["sentence"].isin(["red box", "not blue"])]
    assert row["expressions"] == len(own) and row["points"][0] == 0
    tables = [RunDir(runs / spec.key).records("val") for spec in specs[:3]]
    kept = [table[table["sentence"].isin(["red box", "not blue"])] for table in tables]
    assert row["change"] == pytest.approx(-np.mean([oiou(table) for table in kept]))
    every = read_covered(of(evaluated, "baseline", CoveredWords())[0])
    assert pick(table, kind="word", name="any word", strategy="baseline", metric="oiou")["points"][
        0
    ] == pytest.approx(oiou(every[every["position"] >= 0]))


def test_a_part_of_a_split_may_have_no_expression_without_a_target():
    records = random_table(0).assign(target_pixels=1)
    assert np.isnan(quantities([records], ["n_acc"], resamples=5)).all()
    with_targets = quantities([records], ["miou", "giou"], resamples=5)
    np.testing.assert_array_equal(with_targets[:, 0], with_targets[:, 1])
