"""Groups in MLflow: the parents of runs, their means and reports."""

from pathlib import Path

import pytest

from benchmark.runs.groups import Cell
from benchmark.tracking import mlflow_store
from tests.tracking.stores import make_run, plan, spec_of, stored


def test_a_parent_has_the_mean_of_its_seeds_and_none_of_unlike_runs(runs: Path):
    for seed, oiou in enumerate((0.2, 0.4)):
        make_run(runs, spec_of(seed), oiou=oiou)
    make_run(runs, spec_of(2), "running")
    unlike = [spec_of(0, "baseline"), spec_of(1, "baseline", learning_rate=0.5)]
    for spec in unlike:
        make_run(runs, spec)
    mlflow_store.sync(runs)
    shown = stored(runs)
    assert shown["cris maskris tiny"]["points"]["test/testA/oiou"] == [(0, pytest.approx(0.3))]
    assert shown["cris maskris tiny"]["tags"]["ris.done"] == "2/3"
    assert shown["cris maskris tiny"]["status"] == "RUNNING"
    assert shown["cris baseline tiny"]["points"] == {}


def test_a_run_of_two_groups_is_shown_once(runs: Path):
    spec = spec_of()
    make_run(runs, spec)
    plan(runs, "quick", "preset", Cell.of(spec))
    mlflow_store.sync(runs)
    plan(runs, "ablation", "study", Cell.of(spec, trial=3), Cell.of(spec, trial=7))
    assert mlflow_store.sync(runs).updated == 1
    shown = stored(runs)
    assert set(shown) == {
        spec.key,
        "cris maskris tiny (quick)",
        "study ablation",
    }  # which holds the study's report
    assert shown["study ablation"]["tags"]["ris.done"] == "1/1"
    assert shown[spec.key]["parent"] == "cris maskris tiny (quick)"
    assert shown[spec.key]["tags"]["ris.groups"] == "quick,ablation"
    assert shown[spec.key]["tags"]["ris.trials"] == "ablation 3, ablation 7"


def test_a_study_has_one_parent_with_its_report(runs: Path):
    specs = [spec_of(), spec_of(strategy="baseline")]
    for spec in specs:
        make_run(runs, spec)
    mlflow_store.sync(runs)
    plan(runs, "search", "study", *map(Cell.of, specs))
    report = runs / "studies" / "search" / "report"
    report.mkdir(parents=True)
    (report / "study.md").write_text("what came out")
    mlflow_store.sync(runs)
    shown = stored(runs)
    assert set(shown) == {*(spec.key for spec in specs), "study search"}
    assert {shown[spec.key]["parent"] for spec in specs} == {"study search"}
    assert (
        shown["study search"]["tags"]["ris.method"] == "cris"
        and "ris.strategy" not in shown["study search"]["tags"]
    )
    (copy,) = (runs / "mlartifacts").rglob("study.md")
    before = copy.stat().st_mtime_ns
    mlflow_store.sync(runs)
    assert copy.stat().st_mtime_ns == before and copy.read_text() == "what came out"
