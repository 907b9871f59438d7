"""Studies: what their files say, how specs come of them, and searches that survive interruption
and death.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState
from rich.console import Console

import methods
from benchmark.base.errors import Interrupted, UserError
from benchmark.base.locks import locked
from benchmark.cli.app import app, guarded
from benchmark.launch.base import Job
from benchmark.launch.local import LocalLauncher
from benchmark.robustness.results import read_results
from benchmark.runs import archive
from benchmark.runs.execution import Execution, Places
from benchmark.runs.groups import Group, read_groups, write_plan
from benchmark.runs.preset import PRESETS, narrow, read_preset
from benchmark.runs.resolve import Opened, changed_recipe, resolve_preset
from benchmark.runs.rundir import RunDir, all_runs
from benchmark.training import worker
from studies import launcher, study
from studies.trials import (
    default_storage,
    existing,
    finished,
    open_study,
    queue,
    reap,
    retry_failed,
    run_trial,
    suggest,
    survey,
)
from studies.trials.queue import RETRIES, after_death
from studies.trials.trial import sampler as trial_sampler

QUIET = Console(quiet=True)
TRIAL_SPACE = {
    "distill_weight": {"low": 0.0, "high": 0.9},
    "image_mask_ratio": {"low": 0.25, "high": 0.75, "step": 0.25},
}
TRIAL_PAPER = {"distill_weight": 0.5, "image_mask_ratio": 0.75}


@pytest.fixture
def preset(boxes, tmp_path, monkeypatch):
    """Return a preset file on the small data: LAVT in two epochs of a few steps."""
    quick = yaml.safe_load((PRESETS / "quick.yaml").read_text())
    recipe = {"epochs": 2, "batch_size": 4, "micro_batch": 4}
    quick |= {"datasets": ["refcoco"], "data": str(boxes), "recipes": {"lavt": recipe}}
    path = tmp_path / "boxes.yaml"
    path.write_text(yaml.safe_dump(quick))
    return str(path)


def command(*arguments) -> int:
    return guarded(lambda: app([str(argument) for argument in arguments], standalone_mode=False))


def written(folder: Path, **fields) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"description": "a test", "method": "lavt"} | fields))
    return str(path)


def started_search(preset, folder, **fields) -> study.Started:
    values = {
        "kind": "search",
        "strategy": "maskris",
        "space": TRIAL_SPACE,
        "paper": TRIAL_PAPER,
        "trials": 3,
        "pruner": "none",
    }
    return study.start(written(folder, **(values | fields)), preset, {})


# --- files and specs ------------------------------------------------------------------------------


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


def test_the_seven_rows_of_table_3(preset):
    found = study.start("components", preset, {"method": "lavt"})
    fields = [spec.strategy.key_fields() for spec in found.specs()]
    switches = [
        tuple(its[name] for name in ("image_mask", "text_mask", "distillation")) for its in fields
    ]
    assert switches == [
        (False, False, False),
        (True, False, False),
        (False, True, False),
        (True, True, False),
        (True, False, True),
        (False, True, True),
        (True, True, True),
    ]


def test_lambda_of_table_d_is_the_other_weight(preset):
    found = study.start("lambda", preset, {"method": "lavt"})
    for row in found.study.rows:
        (spec,) = found.row_specs(row)
        weight = spec.strategy.distill_weight if spec.strategy.passes == 2 else 0.0
        assert float(row.published.split()[1]) == pytest.approx(1 - weight)


def test_training_length_is_equal_in_passes(preset, tmp_path):
    found = study.start("training-length", preset, {"method": "cris"})
    passes = {
        row.label: spec.recipe.epochs * spec.strategy.passes
        for row in found.study.rows
        for spec in found.row_specs(row)
    }
    assert passes["MaskRIS, half as long"] == passes["baseline"]
    assert passes["baseline, twice as long"] == passes["MaskRIS"] == 2 * passes["baseline"]
    with pytest.raises(
        UserError, match=r"row 'MaskRIS, half as long': 0.5 times 3 epochs is no whole number"
    ):
        path = written(
            tmp_path,
            **{
                **yaml.safe_load((study.SHIPPED / "grids" / "training-length.yaml").read_text()),
                "variants": {},
            },
            recipe={"epochs": 3},
        )
        study.start(path, preset, {})


def test_a_longer_training_moves_its_milestones():
    from methods.cris.config import CrisRecipe

    recipe = CrisRecipe(
        epochs=50, batch_size=4, micro_batch=4, learning_rate=1e-4, optimizer="adam"
    )
    assert recipe.stretched(0.5) == {"epochs": 25, "milestones": (18,)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"patch_size": 7}, "row 'odd': mask patch size 7 does not divide the image size 64"),
        ({"image_mask_ratio": 1.5}, "row 'odd': strategy maskris: image_mask_ratio"),
        (
            {"patchsize": 8},
            "row 'odd': strategy setting 'patchsize' is not known: did you mean patch_size",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(preset, tmp_path, settings, said):
    rows = [
        {"label": "none", "strategy": "baseline"},
        {"label": "odd", "strategy": "maskris", "settings": settings},
    ]
    with pytest.raises(UserError, match=said):
        study.start(
            written(tmp_path, kind="grid", place="Table C", reference="none", rows=rows), preset, {}
        )


def test_wrong_names_list_the_nearest():
    with pytest.raises(UserError, match="study 'component' is not known: did you mean components"):
        study.read_study("component")


def test_a_search_starts_from_the_baseline(preset, tmp_path):
    with pytest.raises(UserError, match="must be searched from 0 on: that is the baseline"):
        space = {**TRIAL_SPACE, "distill_weight": {"low": 0.1, "high": 0.9}}
        started_search(preset, tmp_path, space=space)
    with pytest.raises(
        UserError, match="search parameter 'image_mask' is not known: did you mean image_mask_ratio"
    ):
        started_search(
            preset,
            tmp_path,
            space={**TRIAL_SPACE, "image_mask": {"low": 0, "high": 1}},
            paper={**TRIAL_PAPER, "image_mask": 0},
        )


def test_shares_of_masked_words_sum_to_one(preset, tmp_path):
    room = {"low": 0.0, "high": 1.0}
    found = started_search(
        preset,
        tmp_path,
        space={**TRIAL_SPACE, "mask_share": room, "random_share": room},
        paper={**TRIAL_PAPER, "mask_share": 0.8, "random_share": 0.5},
    )
    shares = found.trial_spec(found.study.paper).strategy.text_mask_shares
    assert shares == pytest.approx((0.8, 0.1, 0.1))


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


# --- searches -------------------------------------------------------------------------------------

FAST = Execution.of(device="cpu", checkpoint_seconds=0, log_every=2)


def url(runs: Path) -> str:
    return default_storage(runs)


def prepared(preset, tmp_path, **fields) -> tuple[study.Started, Path]:
    runs = tmp_path / "runs"
    found = started_search(preset, tmp_path, **fields)
    found = found.model_copy(
        update={"execution": {"device": "cpu", "checkpoint_seconds": 0, "log_every": 2}}
    )
    study.save(runs, found)
    return found, runs


def places(found, runs) -> Places:
    return Places(found.data, found.images, runs)


def in_order(found, runs, count):
    for _ in range(count):
        run_trial(found, url(runs), found.study.trials, places(found, runs), FAST, QUIET)
    return existing(found, url(runs))


def launch(found, runs, slots: int = 1) -> launcher.Ended:
    there = LocalLauncher(slots, gpus=())
    return launcher.run(found, url(runs), places(found, runs), there, found.how, QUIET)


@pytest.fixture(scope="module")
def finished_search(boxes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    quick = yaml.safe_load((PRESETS / "quick.yaml").read_text())
    recipe = {"epochs": 2, "batch_size": 4, "micro_batch": 4}
    quick |= {"datasets": ["refcoco"], "data": str(boxes), "recipes": {"lavt": recipe}}
    (folder / "boxes.yaml").write_text(yaml.safe_dump(quick))
    found, runs = prepared(str(folder / "boxes.yaml"), folder, trials=4)
    return found, runs, in_order(found, runs, 4)


def test_trial_and_run_point_at_each_other(finished_search):
    found, runs, done = finished_search
    launcher.note(runs, found, survey(done, 4).trials, {})
    (group,) = read_groups(runs)
    for trial in done.trials:
        assert trial.state == TrialState.COMPLETE
        run = RunDir(runs / trial.user_attrs["key"])
        assert trial.value == run.read_json("result.json")["selected"]["oiou"]
        assert [trial.intermediate_values[epoch + 1] for epoch in range(2)] == list(
            run.epoch_values("val", "oiou").values()
        )
        assert trial.number in group.trials[run.key]
    assert set(group.keys) == {trial.user_attrs["key"] for trial in done.trials}


def test_the_papers_setting_and_the_baseline_come_first(finished_search):
    _, runs, done = finished_search
    assert [trial.user_attrs.get("reference") for trial in done.trials[:3]] == [
        "paper",
        "baseline",
        None,
    ]
    strategies = [RunDir(runs / trial.user_attrs["key"]).spec().strategy for trial in done.trials]
    assert [strategy.name for strategy in strategies] == [
        "maskris",
        "baseline",
        "maskris",
        "maskris",
    ]
    assert strategies[0].distill_weight == 0.5 and strategies[0].image_mask_ratio == 0.75
    for strategy, trial in zip(strategies[2:], done.trials[2:], strict=True):
        assert strategy.distill_weight == trial.params["distill_weight"]


def test_the_study_opens_in_plain_optuna(finished_search):
    found, runs, done = finished_search
    plain = optuna.load_study(study_name=found.name, storage=url(runs))
    assert plain.best_value == done.best_value and plain.metric_names == ["val oiou"]


def test_workers_do_not_draw_the_same_samples(finished_search):
    _, _, done = finished_search
    assert done.trials[2].params != done.trials[3].params


def test_a_spec_that_has_run_is_not_trained_again(finished_search, tmp_path, monkeypatch):
    found, runs, done = finished_search
    again = found.model_copy(update={"name": "again"})
    study.save(runs, again)
    monkeypatch.setattr(worker, "work", lambda *_: pytest.fail("it was trained again"))
    second = in_order(again, runs, 2)
    for mine, first in zip(second.trials, done.trials[:2], strict=True):
        assert (mine.value, mine.intermediate_values) == (first.value, first.intermediate_values)


def test_a_trial_beyond_the_budget_is_no_trial(finished_search):
    found, runs, _ = finished_search
    before = len(all_runs(runs))
    run_trial(found, url(runs), 4, places(found, runs), FAST, QUIET)
    trials = existing(found, url(runs)).trials
    assert (finished(trials), trials[-1].state, len(all_runs(runs))) == (4, TrialState.FAIL, before)


def test_a_pruned_run_is_kept_as_such_and_can_go_on(preset, tmp_path, monkeypatch):
    found, runs = prepared(preset, tmp_path, trials=3, pruner="hyperband")
    in_order(found, runs, 2)
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda self: True)
    done = in_order(found, runs, 1)
    assert [trial.state.name for trial in done.trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    run = RunDir(runs / done.trials[2].user_attrs["key"])
    assert run.status().state == "pruned" and not (run.path / "result.json").exists()
    assert list(run.epoch_values("val", "oiou")) == [0]
    worker.work(
        run, Opened(places(found, runs)), FAST, QUIET
    )  # what a matrix that asks for it does
    assert run.status().state == "done" and list(run.epoch_values("val", "oiou")) == [0, 1]


def test_an_interrupted_trial_goes_on_in_the_same_run(preset, tmp_path, monkeypatch):
    found, runs = prepared(preset, tmp_path, trials=2)
    work, stopped = worker.work, []

    def interrupted_once(run, opened, execution, console, report):
        def stop(epoch, value):
            report(epoch, value)
            if not stopped:
                stopped.append(run.key)
                raise KeyboardInterrupt

        work(run, opened, execution, console, stop)

    monkeypatch.setattr(worker, "work", interrupted_once)
    with pytest.raises(Interrupted, match="risbench study resume"):
        in_order(found, runs, 1)
    assert RunDir(runs / stopped[0]).status().state == "planned"
    done = in_order(found, runs, 2)
    assert [trial.state.name for trial in done.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    again = next(trial for trial in done.trials[1:] if trial.user_attrs["key"] == stopped[0])
    assert again.params == done.trials[0].params and again.user_attrs["reference"] == "paper"
    assert sorted(again.intermediate_values) == [1, 2]


def test_a_failed_run_is_no_result_and_says_why(preset, tmp_path, monkeypatch):
    found, runs = prepared(preset, tmp_path)
    monkeypatch.setattr(
        worker, "work", lambda *_: (_ for _ in ()).throw(UserError("the loss became nan"))
    )
    with pytest.raises(UserError):
        in_order(found, runs, 1)
    (trial, *_) = existing(found, url(runs)).trials
    assert (trial.state.name, trial.user_attrs["reason"]) == ("FAIL", "the loss became nan")
    there = open_study(found, url(runs))
    for _ in range(2):  # the next launch tries it again, once
        retry_failed(there)
    (again,) = [
        other
        for other in there.trials
        if other.user_attrs.get("reference") == "paper" and other != trial
    ]
    assert (again.state.name, again.params) == ("WAITING", trial.params)
    assert not {"key", "pid", "reason"} & again.user_attrs.keys()


def test_two_workers_never_take_the_same_trial(preset, tmp_path):
    """SQLite gives a queued trial to both of two processes that ask at once."""
    found, runs = prepared(preset, tmp_path, trials=8)
    there = open_study(found, url(runs))
    for weight in (0.1, 0.2, 0.3, 0.4, 0.6, 0.7):
        there.enqueue_trial({**TRIAL_PAPER, "distill_weight": weight})
    code = (
        "import sys; from pathlib import Path; from benchmark.runs.execution import Places\n"
        "from studies import study; from studies.trials import default_storage, trial\n"
        "started, runs = study.load(Path(sys.argv[1]), sys.argv[2]), Path(sys.argv[1])\n"
        "places = Places(started.data, started.images, runs)\n"
        "value = lambda started, its, *_: trial.suggest(started.study, its)['distill_weight']\n"
        "trial.objective = value\n"
        "for _ in range(4): trial.run_trial(started, default_storage(runs), 8, places, None, None)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(runs), found.name]) for _ in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    trials = existing(found, url(runs)).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 8
    assert sorted(trial.value for trial in trials) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_a_trial_that_kills_its_workers_is_given_up(preset, tmp_path):
    found, runs = prepared(preset, tmp_path)
    there = open_study(found, url(runs))
    for death in range(RETRIES + 1):
        trial = next(trial for trial in there.trials if trial.state == TrialState.WAITING)
        assert trial.user_attrs.get("deaths", 0) == death
        there._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        others = [other for other in there.trials if other.state == TrialState.WAITING]
        for other in others if death == 0 else ():
            there._storage.set_trial_state_values(other._trial_id, TrialState.FAIL)
        after_death(there, there.trials[trial.number])
    assert not [trial for trial in there.trials if trial.state == TrialState.WAITING]


def test_a_refused_launch_changes_nothing(preset, tmp_path):
    found, runs = prepared(preset, tmp_path, trials=4)
    fewer = started_search(preset, tmp_path, trials=2)
    with (
        locked(study.folder(runs, found.name) / ".lock"),
        pytest.raises(UserError, match="is under way in"),
    ):
        launch(fewer, runs)
    assert study.load(runs, found.name).study.trials == 4


def test_fewer_trials_than_are_finished_are_refused(finished_search):
    found, runs, _ = finished_search
    fewer = found.model_copy(update={"study": found.study.model_copy(update={"trials": 3})})
    with pytest.raises(
        UserError, match="has 4 finished trials already: ask for --trials 4 or more"
    ):
        launch(fewer, runs)
    study.save(runs, found)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"space": {**TRIAL_SPACE, "image_mask_ratio": {"low": 0.9, "high": 0.1}}},
            r"low \(0.9\) must be below high",
        ),
        (
            {"paper": {**TRIAL_PAPER, "image_mask_ratio": 0.9}},
            "lies outside the space in image_mask_ratio",
        ),
        (
            {
                "space": {**TRIAL_SPACE, "patch_size": {"choices": [8, 7]}},
                "paper": {**TRIAL_PAPER, "patch_size": 8},
            },
            "patch_size 7: mask patch size 7 does not divide the image size 64",
        ),
    ],
)
def test_a_space_that_does_not_fit_is_refused_before_anything_runs(preset, tmp_path, fields, said):
    with pytest.raises(UserError, match=said):
        started_search(preset, tmp_path, **fields)


def test_whole_numbers_stay_whole(preset, tmp_path):
    found = started_search(
        preset,
        tmp_path,
        space={**TRIAL_SPACE, "epochs": {"low": 1, "high": 3}},
        paper={**TRIAL_PAPER, "epochs": 2},
    )
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
    values = suggest(found.study, trial)
    assert (
        isinstance(values["epochs"], int)
        and found.trial_spec(values).recipe.epochs == values["epochs"]
    )


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


def test_a_search_may_be_the_first_thing_in_a_folder(preset, tmp_path, monkeypatch, capsys):
    """The sync starts before anything has made the folder of the runs."""
    monkeypatch.setattr(
        launcher, "run", lambda *_: (_ for _ in ()).throw(UserError("so far and no further"))
    )
    runs = tmp_path / "not" / "there" / "yet"
    mine = started_search(preset, tmp_path)
    assert (
        command(
            "study",
            "run",
            mine.origin,
            "--preset",
            preset,
            "--runs",
            runs,
            "--out",
            tmp_path / "out",
        )
        == 1
    )
    assert "so far and no further" in capsys.readouterr().err and (runs / "sync.log").exists()


def test_an_unusable_storage_is_one_sentence(preset, tmp_path):
    found, runs = prepared(preset, tmp_path)
    for address in (
        "sqlite:////nowhere/at/all.db",
        "nonsense",
        "sqlite://",
        "postgresql+psycopg://me:secret@localhost:1/none",
    ):
        with pytest.raises(UserError, match="no run is lost: put it right|is no file") as said:
            open_study(found, address)
        assert "secret" not in str(said.value)


def test_a_search_travels_with_its_runs(finished_search, tmp_path, capsys):
    found, runs, _ = finished_search
    archive.unpack(archive.pack(runs, tmp_path / "packed", 2**22), tmp_path / "there")
    said = []
    for folder in (runs, tmp_path / "there"):
        assert command("study", "show", found.name, "--format", "csv", "--runs", folder) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[0].count("complete") == 4


def test_a_grid_runs_once_and_compares_its_rows(preset, tmp_path, monkeypatch, capsys):
    rows = [{"label": "none", "strategy": "baseline"}, {"label": "flipped", "strategy": "flip"}]
    grid = written(tmp_path, kind="grid", place="Fig. 2", reference="none", rows=rows, curves=True)
    place = ("--runs", tmp_path / "runs", "--out", tmp_path / "out", "--no-sync")
    assert command("study", "run", grid, "--preset", preset, *place) == 0
    said = capsys.readouterr().out
    assert "2 to do" in said and "flipped" in said and "reference" in said
    table = pd.read_csv(tmp_path / "out" / "mine-boxes" / "table.csv")
    assert set(table["row"]) == {"none", "flipped"}
    assert {"differences.png", "losses.png", "table.md", "table.tex"} <= {
        path.name for path in (tmp_path / "out" / "mine-boxes").iterdir()
    }
    assert (tmp_path / "runs" / "studies" / "mine-boxes" / "report" / "table.csv").exists()
    assert command("study", "resume", "mine-boxes", *place) == 0
    assert "2 done, 0 to do" in capsys.readouterr().out
    assert command("study", "list", "--runs", tmp_path / "runs") == 0
    assert "2/2" in capsys.readouterr().out
    assert command("study", "show", "mine-boxe", "--runs", tmp_path / "runs") == 1
    assert "study 'mine-boxe' is not known: did you mean mine-boxes" in capsys.readouterr().err
    assert command("study", "resume", "mine-boxes", "--trials", "3", *place) == 1
    assert "it has rows and no trials" in capsys.readouterr().err


@pytest.fixture
def postgres():
    """Start a PostgreSQL server of its own on a socket and return its URL."""
    pytest.importorskip("psycopg")
    if not (shutil.which("initdb") and shutil.which("pg_ctl")):
        pytest.skip("no PostgreSQL server is installed here")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    user = "postgres" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
    if user:
        shutil.chown(folder, user)

    def command(*parts):
        subprocess.run(
            parts,
            user=user,
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    data, options = str(folder / "data"), f"-c listen_addresses= -k {folder}"
    command("initdb", "-D", data, "-U", "ris", "-A", "trust", "--no-sync")
    command("pg_ctl", "-D", data, "-o", options, "-w", "start")
    yield f"postgresql+psycopg://ris@/postgres?host={folder}"
    command("pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder)


def test_a_search_in_postgresql(preset, tmp_path, monkeypatch, postgres):
    found, runs = prepared(preset, tmp_path, trials=2)
    study_there = open_study(found, postgres)
    with pytest.warns(UserWarning, match="Heartbeat"):
        dead = study_there.ask()  # a worker that dies before its heartbeat has begun
    monkeypatch.setattr(queue, "GRACE_SECONDS", 1)
    time.sleep(1.1)
    reap(study_there)
    for _ in range(2):
        run_trial(found, postgres, 2, places(found, runs), FAST, QUIET)
    done = optuna.load_study(study_name=found.name, storage=postgres)
    assert done.trials[dead.number].state == TrialState.FAIL
    assert finished(done.trials) == 2
    assert {trial.user_attrs["reference"] for trial in done.trials} == {"paper", "baseline"}


@pytest.mark.faults
@pytest.mark.slow
def test_two_workers_one_of_which_is_killed_make_up_the_budget(preset, tmp_path, monkeypatch):
    found, runs = prepared(preset, tmp_path, trials=4)
    monkeypatch.setattr(queue, "GRACE_SECONDS", 6)
    monkeypatch.setattr(queue, "HEARTBEAT_SECONDS", 1)
    note, killed = launcher.note, []

    def note_and_kill(runs, started, trials, cells):
        note(runs, started, trials, cells)
        if killed:
            return
        for trial in existing(found, url(runs)).trials:
            # The first one, once it trains.
            key, state = trial.user_attrs.get("key"), trial.state
            if state == TrialState.RUNNING and key and RunDir(runs / key).metrics():
                killed.append(trial.number)
                os.kill(trial.user_attrs["pid"], signal.SIGKILL)
                return

    monkeypatch.setattr(launcher, "note", note_and_kill)
    ended = launch(found, runs, slots=2)
    done = existing(found, url(runs))
    assert (ended.state, ended.complete, finished(done.trials)) == ("complete", 4, 4)
    dead = done.trials[killed[0]]
    assert dead.state == TrialState.FAIL
    assert RunDir(runs / dead.user_attrs["key"]).status().state == "done"
    retried = [
        trial
        for trial in done.trials
        if trial.user_attrs.get("key") == dead.user_attrs["key"]
        and trial.state == TrialState.COMPLETE
    ]
    assert len(retried) == 1 and retried[0].params == dead.params
    # Every job took a trial of its own, and the launcher knew which.
    jobs = [trial.user_attrs["job"] for trial in done.trials]
    assert len(set(jobs)) == len(jobs) and all(job.startswith(found.name) for job in jobs)


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_search_whose_workers_fail_is_given_up(preset, tmp_path, monkeypatch):
    """Nobody watches a search: it says why it stops, in the words of a trial where one has some."""
    found, runs = prepared(preset, tmp_path, trials=9)
    monkeypatch.setattr(launcher, "POLL_SECONDS", 0.05)
    said = [None, None, "the loss became nan"]

    def failing_job(name, **fields):
        if reason := said.pop(0):
            there = open_study(found, url(runs))
            trial = there.ask()
            trial.set_user_attr("reason", reason)
            there.tell(trial, state=TrialState.FAIL)
        return Job(name, (sys.executable, "-c", "raise SystemExit(3)"), tmp_path / "log.txt")

    monkeypatch.setattr(launcher, "trial_job", failing_job)
    ended = launch(found, runs)
    assert ended.state == "failing" and not said
    assert "3 workers failed" in ended.reason and "the loss became nan" in ended.reason


@pytest.mark.faults
@pytest.mark.slow
def test_stopping_a_search_loses_nothing(preset, tmp_path):
    found, runs = prepared(preset, tmp_path, trials=2)
    command = [
        sys.executable,
        "-m",
        "benchmark.cli",
        "study",
        "resume",
        found.name,
        "--runs",
        str(runs),
    ]
    command += ["--no-sync"]
    command += ["--jobs", "1", "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not any(run.metrics() for run in all_runs(runs)) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "goes on from here" in said
    trials = existing(found, url(runs)).trials
    assert sum(trial.state == TrialState.WAITING for trial in trials) == 2
    whole = subprocess.run(command, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    done = existing(found, url(runs))
    assert finished(done.trials) == 2


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_of_one_trial_each_search_together(preset, tmp_path, sampler):
    """Every worker makes its sampler anew; together they must not repeat themselves, and must
    find a plain optimum.
    """
    found, runs = prepared(preset, tmp_path, trials=22, sampler=sampler)

    def closed_form(trial):
        trial.study.sampler = trial_sampler(found.study, trial.number)
        return -abs(suggest(found.study, trial)["distill_weight"] - 0.3)

    for _ in range(22):
        open_study(found, url(runs)).optimize(closed_form, n_trials=1)
    trials = existing(found, url(runs)).trials
    assert len({tuple(trial.params.values()) for trial in trials}) == 22
    assert max(trial.value for trial in trials) > -0.05


def test_two_objectives_are_not_pruned(preset, tmp_path, monkeypatch):
    monkeypatch.setattr(
        optuna.trial.Trial, "should_prune", lambda self: pytest.fail("asked whether to prune")
    )
    corrupted = {"corruptions": ["contrast", "gaussian_noise"], "severities": [2]}
    found, runs = prepared(
        preset, tmp_path, trials=2, objectives=["oiou", "corrupted_oiou"], **corrupted
    )
    done = in_order(found, runs, 2)
    assert done.metric_names == ["val oiou", "val corrupted_oiou"]
    for trial in done.trials:
        run = RunDir(runs / trial.user_attrs["key"])
        tables = [read_results(run, "val", name) for name in ("contrast-2", "gaussian_noise-2")]
        oious = [table["intersection"].sum() / table["union"].sum() for table in tables]
        assert trial.values == pytest.approx(
            [run.read_json("result.json")["selected"]["oiou"], sum(oious) / 2]
        )


def test_an_unknown_corruption_is_refused_before_anything_runs(preset, tmp_path):
    with pytest.raises(UserError, match="corruption 'frog' is not known: did you mean fog"):
        started_search(
            preset,
            tmp_path,
            objectives=["oiou", "corrupted_oiou"],
            corruptions=["frog"],
            severities=[3],
        )
