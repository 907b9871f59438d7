"""Groups in MLflow: the parents of runs, their means and reports."""

import dataclasses
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.runs.groups import Cell, Group
from benchmark.tracking import mlflow_store
from benchmark.tracking.group_report import GroupReport, ParentReport, ReportMaker
from tests.tracking.stores import make_run, plan, spec_of, stored


def test_a_parent_says_how_far_its_runs_are(runs: Path):
    for seed in (0, 1):
        make_run(runs, spec_of(seed))
    make_run(runs, spec_of(2), "running")
    mlflow_store.sync(runs)
    parent = stored(runs)["cris +MaskRIS tiny"]
    assert parent["tags"]["ris.done"] == "2/3" and parent["status"] == "RUNNING"
    assert "seed" not in parent["params"] and parent["params"]["method"] == "cris"


def test_a_parent_whose_children_come_to_differ_is_made_again(runs: Path):
    make_run(runs, spec_of(0))
    mlflow_store.sync(runs)
    assert stored(runs)["cris +MaskRIS tiny"]["params"]["seed"] == "0"
    other = make_run(runs, spec_of(1, learning_rate=0.5))
    mlflow_store.sync(runs)
    shown = stored(runs)
    assert not {"seed", "recipe.learning_rate"} & set(shown["cris +MaskRIS tiny"]["params"])
    assert {shown[key]["parent"] for key in (spec_of(0).key, other.key)} == {"cris +MaskRIS tiny"}


REPORT = GroupReport(
    {"refcoco+": "All of it: ![curves]({artifact:cris +MaskRIS tiny (quick)/a.png})"},
    {
        ("refcoco+", "cris +MaskRIS tiny (quick)"): ParentReport(
            "| a | b |", {"mean/test/testA/oiou": 0.3}, {"a.png": b"picture", "b.md": b"table"}
        )
    },
)


def maker(report: GroupReport, revision: str = "1") -> tuple[ReportMaker, list[str]]:
    """Return a maker of this report, and a list of the groups that it was asked for."""
    asked = []

    def make(group: Group) -> GroupReport:
        asked.append(group.name)
        return report

    return ReportMaker(revision, make), asked


def test_a_report_is_shown_and_made_again_when_its_runs_or_its_code_change(runs: Path):
    spec = spec_of()
    make_run(runs, spec)
    plan(runs, "quick", "preset", Cell.of(spec))
    made, asked = maker(REPORT)
    mlflow_store.sync(runs, reports=made)
    first = stored(runs)
    parent = first["cris +MaskRIS tiny (quick)"]
    assert parent["points"] == {"mean/test/testA/oiou": [(0, 0.3)]}
    assert parent["tags"]["mlflow.note.content"] == "| a | b |"
    assert set(parent["files"]) == {"report/a.png", "report/b.md", "plan/groups/quick.json"}
    assert "get-artifact?path=report%2Fa.png&run_uuid=" in note(runs)
    mlflow_store.sync(runs, reports=made)
    assert asked == ["quick"]
    # A change of the report changes the notes and nothing else.
    said = dataclasses.replace(REPORT.parents["refcoco+", "cris +MaskRIS tiny (quick)"], note="new")
    changed = GroupReport({"refcoco+": "other"}, {("refcoco+", "cris +MaskRIS tiny (quick)"): said})
    mlflow_store.sync(runs, reports=maker(changed, "2")[0])
    assert note(runs) == "other"
    parent["tags"]["mlflow.note.content"] = "new"
    assert stored(runs) == first
    make_run(runs, spec, oiou=0.5)
    mlflow_store.sync(runs, reports=(again := maker(REPORT, "2"))[0])
    assert again[1] == ["quick"]


def test_a_report_that_cannot_be_made_is_named_and_the_runs_are_shown(runs: Path):
    def make(group: Group) -> GroupReport:
        raise UserError("run x is damaged: mend it.")

    spec = spec_of()
    make_run(runs, spec)
    plan(runs, "quick", "preset", Cell.of(spec))
    summary = mlflow_store.sync(runs, reports=ReportMaker("1", make))
    assert summary.failures == ["not shown: report of quick: run x is damaged: mend it."]
    assert spec.key in stored(runs)


def note(runs: Path) -> str:
    client = mlflow_store.client_of(mlflow_store.default_uri(runs))
    return client.get_experiment_by_name("refcoco+").tags["mlflow.note.content"]


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
        "cris +MaskRIS tiny (quick)",
        "study ablation",
    }  # which holds the study's report
    assert shown["study ablation"]["tags"]["ris.done"] == "1/1"
    assert shown[spec.key]["parent"] == "cris +MaskRIS tiny (quick)"
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
    params = shown["study search"]["params"]
    assert params["method"] == "cris" and "strategy" not in params
    assert shown["study search"]["files"]["plan/studies/search/report/study.md"] == 13
    (copy,) = (runs / "mlartifacts").rglob("study.md")
    before = copy.stat().st_mtime_ns
    mlflow_store.sync(runs)
    assert copy.stat().st_mtime_ns == before and copy.read_text() == "what came out"
