"""Numbers of grids against metrics' own functions."""

import numpy as np
import pytest

from benchmark.evaluation import bootstrap, metrics
from benchmark.evaluation.verdict import holm
from benchmark.runs.rundir import RunDir
from reports.studies.grids.results import results
from tests.reports.grids import cells, finish, finish_all, line_of, spec_of, start, text_of


def test_differences_are_those_of_metrics(tmp_path):
    compared = ("none", "IM + TM + DCL")
    started = finish_all(tmp_path, start(seeds=(0, 1, 2)), only=compared)
    table = results(started, tmp_path).table
    records = {
        (label, split): {
            seed: RunDir(tmp_path / spec_of(started, label, seed).key).records(split)
            for seed in (0, 1, 2)
        }
        for label in compared
        for split in ("val", "testB")
    }
    for split in ("val", "testB"):
        own = records["IM + TM + DCL", split]
        expected = bootstrap.paired_differences(records["none", split], own)
        for metric in metrics.expected(()):
            line = line_of(table, row="IM + TM + DCL", split=split, metric=metric)
            points = [metrics.compute(its)[metric] for its in own.values()]
            assert line["points"] == pytest.approx(points) and line["mean"] == pytest.approx(
                np.mean(points)
            )
            assert line["deviation"] == pytest.approx(np.std(points, ddof=1))
            assert (line["low"], line["high"]) == bootstrap.intervals(*own.values())[metric]
            assert line["difference"] == expected[metric].value
            assert (line["difference_low"], line["difference_high"]) == expected[metric].interval
            assert line["differences"] == tuple(expected[metric].per_seed.values())
            assert line["p"] == expected[metric].estimate.p_value()
            assert bool(line["verdict"]) == (metric == "oiou")
            assert (line["verdict"] == "chosen on") == (metric == "oiou" and split == "val")
    assert line["runs"] == tuple(spec_of(started, "IM + TM + DCL", seed).key for seed in (0, 1, 2))
    assert line["reference_runs"] == tuple(spec_of(started, "none", seed).key for seed in (0, 1, 2))
    assert line["git_commits"] == ("c0ffee",) * 3 and line["selected_epochs"] == (2, 2, 2)


def test_holm_is_over_the_oiou_differences_of_all_rows_on_test_splits(tmp_path):
    table = results(finish_all(tmp_path, start(seeds=(0, 1, 2))), tmp_path).table
    tested = table[table["p_holm"].notna()]
    assert set(tested["metric"]) == {"oiou"} and len(tested) == 6 * 2
    assert set(tested["split"]) == {"testA", "testB"}, "val chose the epoch"
    assert tested["p_holm"].tolist() == pytest.approx(holm(tested["p"].tolist()))


def test_one_seed_is_two_checkpoints_and_three_get_a_verdict(tmp_path):
    one, three = start("lambda"), start("lambda", seeds=(0, 1, 2))
    finish_all(tmp_path, three, only=(three.study.reference, "lambda 0.1 (w = 0.9)"))
    text = text_of(one, tmp_path)
    assert (
        '- "these two checkpoints" stands where there is one seed each' in text
        and "verdict" not in text
        and "± 0" not in text
    )
    text = text_of(three, tmp_path)
    found = cells(text, "oIoU on refshapes val", "lambda 0.1 (w = 0.9)")
    assert found[1] == "0, 1, 2" and " ± " in found[2] and found[4].startswith("3 seed pairs: ")
    assert "these two checkpoints" not in text


def test_differences_use_the_seeds_that_both_rows_have(tmp_path):
    started = start("mask-sampling", seeds=(0, 1))
    for label, seeds in (("patch", (0, 1)), ("grid", (1,))):
        for seed in seeds:
            finish(tmp_path, spec_of(started, label, seed), 0.1 * (label == "grid"))
    text = text_of(started, tmp_path)
    line = line_of(results(started, tmp_path).table, row="grid", split="val", metric="oiou")
    assert line["seeds"] == (1,) and line["compared"] == "these two checkpoints"
    assert f"finished run with this seed: {spec_of(started, 'patch').key}." in text
