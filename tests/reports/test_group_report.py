"""What MLflow is given to show of a plan: numbers and figures under the parents of their runs."""

from pathlib import Path

import pytest

from benchmark.robustness.corruptions import Condition
from benchmark.robustness.results import write_results
from benchmark.runs.groups import write_plan
from reports import figures
from reports.group_report import group_report, maker
from tests.reports.fakes import make_run, make_spec, plan
from tests.reports.robustness.runs import worse

PLACES = (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd"), ("refcocog", "google"))
FOG = Condition("fog", 1)


@pytest.fixture
def specs(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "files", lambda name, figure: {f"{name}.png": b""})  # takes long
    made = [
        make_spec(strategy, dataset=dataset).model_copy(update={"split_by": split_by})
        for dataset, split_by in PLACES
        for strategy in ("baseline", "maskris")
    ]
    for spec in made:
        run = make_run(tmp_path, spec)
        write_results(run, "val", FOG, worse(run.records("val"), 0.5))
    return made


def test_figures_and_numbers_stand_under_the_runs_that_they_are_of(specs, tmp_path):
    report = group_report(tmp_path, write_plan(tmp_path, plan(specs)))
    assert {dataset for dataset, _ in report.parents} == {"refcoco", "refcoco+", "refcocog"}
    for (dataset, parent), its in report.parents.items():
        pictures = [name for name in its.files if name.endswith(".png")]
        if "baseline" in parent:
            assert not pictures
            continue
        own = [part for part in PLACES if part[0] == dataset]
        names = [f"{dataset}-{by}" for _, by in own] if len(own) > 1 else [dataset]
        kinds = ("means-{}-val", "heat-{}-val", "language-{}-val", "severity-{}-val-CRIS-tiny")
        expected = {f"{kind.format(name)}.png" for kind in kinds for name in names}
        expected |= {f"differences-{dataset}-{by}.png" for _, by in own}
        assert {name.lower() for name in pictures} == {name.lower() for name in expected}
        assert f"{{artifact:{parent}/{pictures[0]}}}" in report.notes[dataset]


def test_a_data_set_that_is_split_twice_keeps_its_numbers(specs, tmp_path):
    for spec in specs:
        if spec.split_by == "google":
            run = make_run(tmp_path, spec)
            write_results(run, "val", Condition("snow", 2), run.records("val"))
    report = group_report(tmp_path, write_plan(tmp_path, plan(specs)))
    metrics = report.parents["refcocog", "cris +MaskRIS tiny (set)"].metrics
    assert "mean/robust/snow/2/val/oiou" in metrics


@pytest.mark.parametrize("name", ["published.csv", "metrics.py", "compare.py"])
def test_a_change_of_what_reports_are_made_with_is_another_revision(tmp_path, monkeypatch, name):
    before = maker(tmp_path).revision
    read = Path.read_bytes
    assert maker(tmp_path).revision == before
    monkeypatch.setattr(Path, "read_bytes", lambda its: read(its) + b"#" * (its.name == name))
    assert maker(tmp_path).revision != before
