"""Run directories -> MLflow: what is shown of a run, and repeated syncs."""

import json
import os
from pathlib import Path

import pytest

import methods
from benchmark.base.errors import UserError
from benchmark.runs.groups import Cell
from benchmark.tracking import mlflow_store
from tests.tracking.stores import NUMBERS, make_run, plan, spec_of, stored


def test_a_finished_run_is_shown_whole(runs: Path):
    spec = spec_of()
    make_run(runs, spec)
    plan(runs, "quick", "preset", Cell.of(spec))
    summary = mlflow_store.sync(runs)
    assert (summary.created, summary.updated, summary.unchanged, summary.failed) == (1, 0, 0, {})
    shown = stored(runs)
    assert set(shown) == {spec.key, "cris maskris tiny (quick)"}
    run = shown[spec.key]
    assert (run["experiment"], run["status"], run["parent"]) == (
        "refcoco+",
        "FINISHED",
        "cris maskris tiny (quick)",
    )
    assert run["points"]["train/loss"] == [(10, 1.0), (20, 1 / 2), (30, 1 / 3), (40, 1 / 4)]
    assert run["points"]["val/oiou"] == [(20, 0.25), (40, 0.25)]
    assert run["points"]["test/testA/miou"] == [(40, 0.5)] and run["points"][
        "selected/val/p_50"
    ] == [(40, 0.75)]
    assert run["points"]["selected/epoch"] == [(40, 1)] and run["points"][
        "timing/training_seconds"
    ] == [(40, 1.5)]
    assert not {"val/grounding_gap", "step", "epoch"} & set(run["points"])
    assert set(run["files"]) == {
        "spec.yaml",
        "environment.json",
        "result.json",
        "images/val_7.png",
        "records/testA.parquet",
    }
    assert (
        run["params"]["recipe.learning_rate"]
        == str(methods.definition("cris").recipes["tiny"].learning_rate)
        and run["params"]["strategy.distill_weight"] == "0.5"
    )
    assert (
        run["params"]["network.clip.layers"] == "[1, 1, 1, 1]" and run["params"]["method"] == "cris"
    )
    expected = {
        "ris.key": spec.key,
        "ris.method": "cris",
        "ris.variant": "tiny",
        "ris.strategy": "maskris",
        "ris.dataset": "refcoco+",
        "ris.seed": "0",
        "ris.status": "done",
        "ris.groups": "quick",
        "git.commit": "c0ffee",
        "git.dirty": "False",
        "data.sha256": "d" * 64,
    }
    assert expected.items() <= run["tags"].items()


def test_no_point_is_sent_twice_when_a_run_is_resumed(runs: Path):
    spec = spec_of()
    run = make_run(runs, spec, "running", lines=3)
    mlflow_store.sync(runs)
    run.keep_metrics(
        2
    )  # back to the resume point: the lines of steps 20 (val) and 30 are made again
    mlflow_store.sync(runs)
    make_run(runs, spec_of(1), "done", lines=6)
    for number in range(2, 7):
        if number > 2:
            run.log(
                10 * number, 0, {"train/loss": 1 / number, "train/loss_ce": 2 / number, "lr": 1e-3}
            )
        if number % 2 == 0:
            run.log(10 * number, 0, {f"val/{name}": value for name, value in NUMBERS.items()})
    assert mlflow_store.sync(runs).updated == 1
    shown = stored(runs)
    other = shown[spec_of(1).key]["points"]
    assert shown[spec.key]["points"] == {name: other[name] for name in shown[spec.key]["points"]}
    assert {"train/loss", "lr", "val/oiou"} <= set(shown[spec.key]["points"])


def test_states_are_followed(runs: Path):
    spec = spec_of()
    run = make_run(runs, spec, "planned", lines=0)
    steps = [
        ("planned", "SCHEDULED"),
        ("running", "RUNNING"),
        ("failed", "FAILED"),
        ("running", "RUNNING"),
    ]
    for state, status in steps:
        run.write_status(state, **({"reason": "the loss became nan"} if state == "failed" else {}))
        mlflow_store.sync(runs)
        shown = stored(runs)
        assert {shown[name]["status"] for name in (spec.key, "cris maskris tiny")} == {status}
        assert shown[spec.key]["tags"].get("ris.reason", "") == (
            "the loss became nan" if state == "failed" else ""
        )
    make_run(runs, spec, "done")
    mlflow_store.sync(runs)
    assert stored(runs)[spec.key]["times"][1] == int(1000 * run.status().heartbeat)
    assert stored(runs)["cris maskris tiny"]["status"] == "FINISHED"


def test_a_changed_file_is_sent_again_and_no_other(runs: Path):
    spec = spec_of()
    run = make_run(runs, spec)
    mlflow_store.sync(runs)
    copies = {path.name: path for path in (runs / "mlartifacts").rglob("*") if path.is_file()}
    before = {name: path.stat().st_mtime_ns for name, path in copies.items()}
    run.write_json("result.json", {**run.read_json("result.json"), "testA": {"oiou": 0.5}})
    os.utime(run.path / "images" / "val_7.png")
    mlflow_store.sync(runs)
    assert json.loads(copies["result.json"].read_text())["testA"]["oiou"] == 0.5
    assert [name for name in copies if copies[name].stat().st_mtime_ns != before[name]] == [
        "result.json"
    ]
    assert stored(runs)[spec.key]["points"]["test/testA/oiou"][-1] == (40, 0.5)


def test_ui_command_serves_the_store_that_sync_wrote(runs: Path, tmp_path: Path):
    command = mlflow_store.ui_command(runs, None, "127.0.0.1", 5055)
    assert (
        f"sqlite:///{runs}/mlflow.db" in command
        and str(runs / "mlartifacts") in command
        and "5055" in command
    )
    with pytest.raises(UserError, match="open it in a browser"):
        mlflow_store.ui_command(runs, "http://host:5000")
    with pytest.raises(UserError, match="risbench sync"):
        mlflow_store.ui_command(tmp_path)
