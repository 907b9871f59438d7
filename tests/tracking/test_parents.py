"""Groups in MLflow: the parents of runs, their means and reports."""

import dataclasses
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.runs.groups import Cell, Group
from benchmark.tracking import mlflow_client, mlflow_store
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


def test_a_report_may_wait_for_a_later_pass(runs: Path):
    spec = spec_of()
    make_run(runs, spec)
    plan(runs, "quick", "preset", Cell.of(spec))
    made, asked = maker(REPORT)
    mlflow_store.sync(runs, reports=made)
    make_run(runs, spec, oiou=0.5)
    assert mlflow_store.sync(runs, reports=made, later=True).updated == 1
    assert mlflow_store.sync(runs, reports=made, later=True).unchanged == 1
    assert asked == ["quick"]
    assert stored(runs)[spec.key]["points"]["test/testA/oiou"][-1] == (1, 0.5)
    mlflow_store.sync(runs, reports=made)
    assert asked == ["quick", "quick"]


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
    client = mlflow_client.client_of(mlflow_client.default_uri(runs))
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


def test_a_report_that_could_not_be_made_is_tried_again(runs: Path):
    spec = spec_of()
    make_run(runs, spec)
    plan(runs, "quick", "preset", Cell.of(spec))
    broken = [True]

    def make(group: Group) -> GroupReport:
        if broken:
            raise UserError("a font is missing: install it.")
        return REPORT

    made = ReportMaker("1", make)
    for _ in range(2):
        assert mlflow_store.sync(runs, reports=made).failures
    broken.clear()
    assert not mlflow_store.sync(runs, reports=made).failures
    assert "report/a.png" in stored(runs)["cris +MaskRIS tiny (quick)"]["files"]


def test_words_that_look_like_an_address_stay_and_a_long_note_ends_with_a_line(runs: Path):
    spec = spec_of()
    make_run(runs, spec)
    plan(runs, "quick", "preset", Cell.of(spec))
    parent = ("refcoco+", "cris +MaskRIS tiny (quick)")
    line = "| a cell of {run:nobody} and {compare:x,y} |"
    said = dataclasses.replace(REPORT.parents[parent], note="\n".join([line] * 500))
    report = GroupReport({"refcoco+": "\n".join([line] * 1000)}, {parent: said})
    mlflow_store.sync(runs, reports=maker(report)[0])
    own = stored(runs)[parent[1]]["tags"]["mlflow.note.content"]
    assert 7900 < len(own) <= 8000 and {*own.split("\n")} == {line}
    assert 19_900 < len(note(runs)) <= 20_000 and {*note(runs).split("\n")} == {line}


def test_the_folder_may_be_named_in_two_ways(runs: Path, monkeypatch):
    spec = spec_of()
    make_run(runs, spec)
    plan(runs, "quick", "preset", Cell.of(spec))
    made, asked = maker(REPORT)
    mlflow_store.sync(runs, mlflow_client.default_uri(runs), made)
    monkeypatch.chdir(runs.parent)
    mlflow_store.sync(Path(runs.name), mlflow_client.default_uri(runs), made)
    assert asked == ["quick"]


def test_files_that_are_gone_leave_the_store(runs: Path):
    specs = [spec_of(), spec_of(strategy="baseline")]
    for spec in specs:
        run = make_run(runs, spec)
    conditions = run.path / "robustness" / "testA"
    conditions.mkdir(parents=True)
    for name in ("fog-1", "fog-2"):
        (conditions / f"{name}.parquet").write_text(name)
    plan(runs, "quick", "preset", *map(Cell.of, specs))
    pictures = runs / "examples" / "quick"
    pictures.mkdir(parents=True)
    (pictures / "one.png").write_bytes(b"one")
    mlflow_store.sync(runs, reports=maker(REPORT)[0])

    def files() -> set[str]:
        return {path for each in stored(runs).values() for path in each["files"]}

    whole = files()
    assert {"robustness/testA/fog-1.parquet", "report/a.png", "plan/examples/quick/one.png"} < whole
    (conditions / "fog-2.parquet").unlink()
    (pictures / "one.png").rename(pictures / "two.png")
    (run.path / "images" / "val_7.png").rename(run.path / "images" / "val_8.png")
    parent = ("refcoco+", "cris +MaskRIS tiny (quick)")
    less = dataclasses.replace(REPORT.parents[parent], files={"b.md": b"table"})
    mlflow_store.sync(runs, reports=maker(GroupReport(REPORT.notes, {parent: less}), "2")[0])
    now = files()
    gone = {"robustness/testA/fog-2.parquet", "report/a.png", "plan/examples/quick/one.png"}
    assert {path for path in whole - now if not path.startswith("images/")} == gone
    shown = stored(runs)[run.key]["files"]
    assert len([path for path in shown if path.startswith("images/val_8")]) == 2
    assert not any(path.startswith("images/val_7") for path in shown)
    # A run that is trained again loses all that was measured on its weights.
    for path in (conditions / "fog-1.parquet", conditions, conditions.parent):
        path.unlink() if path.is_file() else path.rmdir()
    (run.path / "timing.json").unlink()
    mlflow_store.sync(runs)
    shown = stored(runs)[run.key]["files"]
    assert not {"timing.json"} & shown.keys() and not any("robustness" in path for path in shown)
    assert "records/testA.parquet" in shown
