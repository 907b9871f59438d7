"""Grids with unfinished rows, damaged files, or plans that say more."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from benchmark.base.errors import UserError
from benchmark.runs.groups import Cell, write_plan
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import Selection
from reports.studies.grids import report
from reports.studies.grids.results import plan, results
from tests.reports.fakes import make_spec
from tests.reports.grids import (
    SPLITS,
    cells,
    finish,
    finish_all,
    line_of,
    spec_of,
    start,
    text_of,
    written,
)


def test_unfinished_rows_are_listed_and_no_result(tmp_path):
    started = finish_all(tmp_path, start(), but=("TM", "IM + TM", "IM + DCL"))
    for label, state, reason in (
        ("IM + TM", "pruned", "by Hyperband"),
        ("IM + DCL", "failed", "disk full"),
    ):
        finish(tmp_path, spec_of(started, label))
        RunDir(tmp_path / spec_of(started, label).key).write_status(state, reason=reason)
    text, paths = written(started, tmp_path, tmp_path / "out")
    read = pd.read_csv(paths["table.csv"])
    for label in ("TM", "IM + TM", "IM + DCL"):
        assert cells(text, "oIoU on refshapes val", label)[1:4] == ["–", "not finished", "–"]
        line = line_of(read, row=label, split="val", metric="oiou")
        assert line["finished"] == "0 of 1" and np.isnan(line["mean"]) and line["published"] > 0.7
        assert spec_of(started, label).key not in paths["table.csv"].read_text()
    assert f"{spec_of(started, 'IM + TM').key}: pruned (by Hyperband)" in text
    assert f"{spec_of(started, 'IM + DCL').key}: failed (disk full)" in text
    assert f"{spec_of(started, 'TM').key}: planned" in text and "(3 of 7 runs)" in text


def test_without_the_reference_there_is_no_difference_and_no_figure_of_one(tmp_path):
    started = finish_all(tmp_path, start(), but=("none",))
    text, paths = written(started, tmp_path, tmp_path / "out")
    assert "reference row 'none' is not finished" in text
    assert cells(text, "oIoU on refshapes val", "IM")[3] == "–" and "differences.png" not in paths


def test_other_runs_of_the_folder_are_no_concern(tmp_path):
    started = finish_all(tmp_path, start())
    finish(
        tmp_path,
        make_spec("maskris", 5).model_copy(
            update={"selection": Selection(metric="oiou", report=SPLITS)}
        ),
    )
    assert "not part of this table" not in text_of(started, tmp_path)


def test_user_errors_say_what_to_do(tmp_path):
    with pytest.raises(UserError, match="7 runs .*risbench study resume components-quick"):
        results(start(), tmp_path)
    rows = [{"label": "a", "published": "IM+TN"}, {"label": "b"}]
    with pytest.raises(
        UserError, match=r"row 'a': condition of CARIS\+MaskRIS in Table 3 .*'IM\+TN'.*IM\+TM"
    ):
        results(start(rows=rows, reference="b", strategy="maskris"), tmp_path)
    with pytest.raises(UserError, match="metric of study components-quick 'oIoU' is not known"):
        results(start(metrics=("oIoU",)), tmp_path)
    started = finish_all(tmp_path, start("mask-sampling"))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="choose another folder"):
        report.write(results(started, tmp_path), tmp_path / "out")


def test_what_the_plan_says_of_a_grid_stands_under_it(tmp_path):
    started = finish_all(tmp_path, start("mask-sampling"))
    before = make_spec("maskris", 9).model_copy(
        update={"selection": Selection(metric="oiou", report=SPLITS)}
    )
    finish(tmp_path, before)
    now = plan(started, tmp_path)
    written_before = dataclasses.replace(now, cells=[*now.cells, Cell.of(before, "patch")])
    write_plan(tmp_path, written_before)
    write_plan(tmp_path, dataclasses.replace(now, margin=1.0))
    text = text_of(started, tmp_path)
    assert "margin was 0.5" in text and "1 finished run is superseded" in text
    assert before.key in text and "in the folder" not in text


def test_the_plan_says_which_metric_is_judged(tmp_path):
    started = finish_all(tmp_path, start("mask-sampling", seeds=(0, 1, 2)))
    write_plan(tmp_path, dataclasses.replace(plan(started, tmp_path), primary={"full": "p_50"}))
    found = results(started, tmp_path)
    assert found.judged == "p_50" and found.shown[0] == "p_50" and "oiou" in found.shown
    judged = found.table[found.table["p_holm"].notna()]
    assert set(judged["metric"]) == {"p_50"}
    text = text_of(started, tmp_path)
    assert "Judged is P@0.5" in text


def test_compared_rows_of_other_numerics_are_warned_about(tmp_path):
    started = finish_all(tmp_path, start("mask-sampling"))
    for label, threads in (("patch", 1), ("grid", 4)):
        run = RunDir(tmp_path / spec_of(started, label).key)
        environment = {"device": {"type": "cpu", "threads": threads}}
        run.write_json("environment.json", run.read_json("environment.json") | environment)
    text = text_of(started, tmp_path)
    assert "threads 4 and 1" in text and spec_of(started, "grid").key in text
