"""What the files of studies say, and what is kept of a study that was started."""

from pathlib import Path

import pytest

import methods
from benchmark.base.errors import UserError
from benchmark.runs import archive
from benchmark.runs.execution import Places
from benchmark.runs.groups import Group, write_plan
from benchmark.runs.preset import narrow, read_preset
from benchmark.runs.resolve import changed_recipe, resolve_preset
from benchmark.runs.unpacking import unpack
from studies import study
from tests.studies.searches import SEARCH, TRIAL_PAPER, command, prepared, started_search, written


@pytest.mark.parametrize(
    ("preset", "variant"), [("quick", "tiny"), ("gpu", "small"), ("paper", "paper")]
)
def test_every_shipped_study_fits_every_preset(preset, variant, boxes):
    for name in study.shipped():
        found = study.read_study(name, variant)
        spec = resolve_preset(
            "test",
            read_preset("quick").model_copy(
                update={
                    "methods": (found.method,),
                    "strategies": ("baseline",),
                    "datasets": ("refcoco",),
                    "recipes": {found.method: found.recipe},
                }
            ),
            Places(boxes),
        ).specs[0]
        method = methods.definition(found.method)
        base = spec.model_copy(
            update={
                "network": method.variants[variant],
                "recipe": changed_recipe(method, method.recipes[variant], found.recipe),
            }
        )
        settings = read_preset(preset).strategy
        whole = study.Started(
            name="x",
            origin=name,
            preset="quick",
            study=found,
            bases={0: base},
            settings=settings,
            data=boxes,
        )
        if found.kind == "grid":
            assert len(whole.specs()) == len(found.rows)
        else:
            assert whole.trial_spec(found.paper).strategy.name == "maskris"
            assert (
                whole.trial_spec({**found.paper, "distill_weight": 0.0}).strategy.name == "baseline"
            )


def test_wrong_names_list_the_nearest():
    with pytest.raises(UserError, match="'component'.*did you mean components"):
        study.read_study("component")


def test_the_papers_setting_is_the_run_of_the_matrix(preset, tmp_path):
    found = started_search(preset, tmp_path)
    read = read_preset(preset)
    specs = resolve_preset("m", narrow(read, methods=("lavt",)), Places(read.data)).specs
    assert {
        found.trial_spec(found.study.paper).key,
        found.trial_spec({**TRIAL_PAPER, "distill_weight": 0.0}).key,
    } == {spec.key for spec in specs}


def test_a_study_keeps_its_settings_under_its_name(preset, tmp_path):
    found = started_search(preset, tmp_path)
    study.save(tmp_path / "runs", found)
    study.save(tmp_path / "runs", found.model_copy(update={"jobs": 7}))
    assert study.load(tmp_path / "runs", found.name).jobs == 7
    assert study.load(tmp_path / "runs", found.name).trial_spec(TRIAL_PAPER) == found.trial_spec(
        TRIAL_PAPER
    )
    more = started_search(preset, tmp_path, trials=9)
    study.save(tmp_path / "runs", more)
    with pytest.raises(UserError, match=r"other settings \(study.sampler was tpe, is gp\)"):
        study.save(tmp_path / "runs", started_search(preset, tmp_path, sampler="gp"))


def test_a_study_is_not_called_like_a_preset(preset, tmp_path):
    found, runs = prepared(preset, tmp_path)
    write_plan(runs, Group("quick", "preset"))
    for name, said in (
        ("quick", "is the name of a preset"),
        ("a/b", "cannot name a preset or study"),
    ):
        with pytest.raises(UserError, match=said):
            study.save(runs, found.model_copy(update={"name": name}))
    assert not (runs / "studies" / "a").exists()


def test_a_search_travels_with_its_runs(finished_search, tmp_path, capsys):
    found, runs, _ = finished_search
    unpack(archive.pack(runs, tmp_path / "packed", 2**22), tmp_path / "there")
    said = []
    for folder in (runs, tmp_path / "there"):
        assert command("study", "show", found.name, "--format", "csv", "--runs", folder) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[0].count("complete") == 4


def test_a_study_finds_its_data_from_any_folder(preset, boxes, tmp_path, monkeypatch):
    monkeypatch.chdir(boxes.parent)
    places = Places(Path(boxes.name), Path(boxes.name) / "images" / "train2014", tmp_path / "runs")
    name = written(tmp_path, **SEARCH)
    found = study.start(name, preset, {}, places)
    assert found.data == boxes.resolve()
    assert found.images == boxes.resolve() / "images" / "train2014"
