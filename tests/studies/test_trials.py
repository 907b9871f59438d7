"""Trials and the runs that they point at."""

import optuna
import pytest
from optuna.trial import TrialState

from benchmark.base.errors import Interrupted, UserError
from benchmark.robustness.results import read_results
from benchmark.runs.groups import read_groups
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir, all_runs
from benchmark.training import worker
from studies import launcher, study
from studies.trials import (
    existing,
    finished,
    open_study,
    retry_failed,
    run_trial,
    survey,
)
from tests.studies.searches import FAST, QUIET, in_order, places, prepared, url


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
    monkeypatch.setattr(worker, "Trainer", lambda *_: pytest.fail("it was trained again"))
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
        if other.user_attrs.get("reference") == "paper" and other.number != trial.number
    ]
    assert (again.state.name, again.params) == ("WAITING", trial.params)
    assert not {"key", "pid", "reason"} & again.user_attrs.keys()


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
