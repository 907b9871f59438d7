"""Run directories -> MLflow: what is shown of a run, and repeated syncs."""

import json
import os
import re
from pathlib import Path

import pytest

import methods
from benchmark.base.errors import UserError
from benchmark.runs.groups import Cell
from benchmark.tracking import mlflow_store
from tests.tracking.stores import make_run, plan, spec_of, stored


def test_a_finished_run_is_shown_whole(runs: Path):
    spec = spec_of()
    make_run(runs, spec)
    plan(runs, "quick", "preset", Cell.of(spec))
    summary = mlflow_store.sync(runs)
    assert (summary.created, summary.updated, summary.unchanged, summary.failed) == (1, 0, 0, {})
    shown = stored(runs)
    assert set(shown) == {spec.key, "cris +MaskRIS tiny (quick)"}
    run = shown[spec.key]
    assert (run["name"], run["experiment"], run["status"], run["parent"]) == (
        "+MaskRIS, seed 0",
        "refcoco+",
        "FINISHED",
        "cris +MaskRIS tiny (quick)",
    )
    # Two lines are logged in each epoch. Their mean is the point of the epoch.
    assert run["points"]["train/loss"] == [(0, 0.75), (1, pytest.approx(7 / 24))]
    assert run["points"]["train/lr"] == [(0, 1e-3), (1, 1e-3)]
    assert run["points"]["val/oiou"] == [(0, 0.25), (1, 0.25)]
    assert run["points"]["test/testA/miou"] == [(1, 0.5)]
    assert run["points"]["val/selected/p_50"] == [(1, 0.75)]
    assert run["points"]["val/selected/epoch"] == [(1, 1)]
    assert run["points"]["system/training_seconds"] == [(1, 1.5)]
    prefixes = {name.partition("/")[0] for name in run["points"]}
    assert prefixes == {"train", "val", "test", "system"}
    assert not {"val/grounding_gap", "step", "epoch"} & set(run["points"])


def test_files_are_artifacts_and_overlays_are_images_by_epoch(runs: Path):
    run = make_run(runs, spec_of())
    mlflow_store.sync(runs)
    files = stored(runs)[run.key]["files"]
    images = {path for path in files if path.startswith("images/")}
    assert set(files) - images == {
        "best.safetensors",
        "environment.json",
        "metrics.jsonl",
        "records/testA.parquet",
        "result.json",
        "spec.yaml",
        "status.json",
        "timing.json",
    }
    # MLflow's image charts read key and step from the names.
    full, small = sorted(images, key=len)
    assert re.fullmatch(r"images/val_7\+step\+1\+timestamp\+\d+\+[\w-]{36}\.png", full)
    assert small == full.replace(".png", "+compressed.webp")


def test_parameters_are_few_and_numbers_stay_numbers(runs: Path):
    wider = {"network": methods.definition("cris").variants["tiny"].model_copy(update={"size": 64})}
    spec = spec_of(learning_rate=0.0025)
    other = spec.model_copy(update=wider)
    for each in (spec, other):
        make_run(runs, each)
    mlflow_store.sync(runs)
    shown = stored(runs)
    params = shown[spec.key]["params"]
    assert params["method"] == "cris" and params["seed"] == "0" and len(params) < 40
    assert float(params["recipe.learning_rate"]) == 0.0025
    assert params["strategy"] == "maskris" and float(params["strategy.distill_weight"]) == 0.5
    # Of the network there is what differs from its variant.
    assert not any(name.startswith("network.") for name in params)
    differing = {
        name: value for name, value in shown[other.key]["params"].items() if name not in params
    }
    assert differing == {"network.size": "64"}
    # The parent has what its children share.
    assert shown["cris +MaskRIS tiny"]["params"] == params


def test_a_run_names_the_data_that_it_used(runs: Path):
    run = make_run(runs, spec_of(dataset="refshapes"))
    mlflow_store.sync(runs)
    inputs = stored(runs)[run.key]["inputs"]
    digest = 12 * "d"
    assert set(inputs) == {
        ("refshapes train", digest, "train"),
        ("refshapes val", digest, "val"),
        ("refshapes testA", digest, "test"),
        ("refshapes testB", digest, "test"),
    }
    profile = json.loads(inputs["refshapes testA", digest, "test"])
    assert profile == {"split": "testA", "split_by": "unc", "expressions": 2}


def test_the_published_counts_of_a_split_are_shown(runs: Path):
    run = make_run(runs, spec_of())
    mlflow_store.sync(runs)
    profile = stored(runs)[run.key]["inputs"]["refcoco+ train", 12 * "d", "train"]
    assert json.loads(profile)["expressions"] == 120191


def test_no_point_is_sent_twice_when_a_run_is_resumed(runs: Path):
    spec = spec_of()
    run = make_run(runs, spec, "running", lines=4)
    mlflow_store.sync(runs)
    first = stored(runs)[spec.key]["points"]
    assert first["train/loss"] == [(0, 0.75), (1, pytest.approx(7 / 24))]
    run.keep_metrics(3)  # back to the resume point: the second epoch is made again
    mlflow_store.sync(runs)
    run.log(30, 1, {"train/loss": 1 / 3})
    mlflow_store.sync(runs)
    assert stored(runs)[spec.key]["points"] == first
    run.log(40, 1, {"train/loss": 1 / 4})
    run.log(40, 1, {"val/oiou": 0.25})
    run.log(50, 2, {"train/loss": 1 / 5})
    mlflow_store.sync(runs)
    # The third epoch goes on, so that it has no point yet.
    assert stored(runs)[spec.key]["points"] == first


def test_the_state_of_the_machine_is_shown_by_minute(runs: Path):
    run = make_run(runs, spec_of())
    samples = [(600, 80), (610, 90), (660, 50)]
    lines = [json.dumps({"time": at, "gpu_utilization_percentage": value}) for at, value in samples]
    (run.path / "system.jsonl").write_text("\n".join(lines) + "\n{")
    mlflow_store.sync(runs)
    points = stored(runs)[run.key]["points"]
    assert points["system/gpu_utilization_percentage"] == [(0, 85), (1, 50)]


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
        reason = {"reason": "the loss became nan"} if state == "failed" else {}
        run.write_status(state, host="elsewhere", **reason)
        mlflow_store.sync(runs)
        shown = stored(runs)
        assert {shown[name]["status"] for name in (spec.key, "cris +MaskRIS tiny")} == {status}
        assert shown[spec.key]["tags"].get("ris.reason", "") == (
            "the loss became nan" if state == "failed" else ""
        )
    make_run(runs, spec, "done")
    mlflow_store.sync(runs)
    assert stored(runs)[spec.key]["times"][1] == int(1000 * run.status().heartbeat)
    assert stored(runs)["cris +MaskRIS tiny"]["status"] == "FINISHED"


def test_a_changed_file_is_sent_again_and_no_other(runs: Path):
    spec = spec_of()
    run = make_run(runs, spec)
    mlflow_store.sync(runs)
    copies = {path.name: path for path in (runs / "mlartifacts").rglob("*") if path.is_file()}
    before = {name: path.stat().st_ino for name, path in copies.items()}
    run.write_json("result.json", {**run.read_json("result.json"), "testA": {"oiou": 0.5}})
    os.utime(run.path / "images" / "val_7.png")
    mlflow_store.sync(runs)
    assert json.loads(copies["result.json"].read_text())["testA"]["oiou"] == 0.5
    assert [name for name in copies if copies[name].stat().st_ino != before[name]] == [
        "result.json"
    ]
    assert stored(runs)[spec.key]["points"]["test/testA/oiou"][-1] == (1, 0.5)


def test_ui_command_serves_the_store_that_sync_wrote(runs: Path, tmp_path: Path):
    command, variables = mlflow_store.ui_command(runs, None, "127.0.0.1", 5055)
    assert str(runs / "mlartifacts") in command and "5055" in command
    assert variables == {"MLFLOW_BACKEND_STORE_URI": f"sqlite+pysqlite:///{runs}/mlflow.db"}
    with pytest.raises(UserError, match="open it in a browser"):
        mlflow_store.ui_command(runs, "http://host:5000")
    with pytest.raises(UserError, match="risbench sync"):
        mlflow_store.ui_command(tmp_path)
