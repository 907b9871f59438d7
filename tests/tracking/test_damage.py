"""Damaged runs, lost databases, and stores that cannot be used."""

import shutil
import socket
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.runs.groups import Cell
from benchmark.tracking import mlflow_client, mlflow_store
from tests.tracking.stores import make_run, plan, spec_of, stored


def test_a_second_sync_changes_nothing_and_a_lost_database_comes_back(runs: Path):
    specs = [spec_of(0), spec_of(1), spec_of(0, "baseline"), spec_of(0, "masking", "refcocog")]
    for spec, state in zip(specs, ("done", "planned", "failed", "done"), strict=True):
        make_run(runs, spec, state)
    plan(runs, "quick", "preset", *map(Cell.of, specs))
    assert mlflow_store.sync(runs).created == 4
    first = stored(runs)
    assert mlflow_store.sync(runs).unchanged == 4
    assert stored(runs) == first
    shutil.rmtree(runs / "mlartifacts")
    (runs / "mlflow.db").unlink()
    assert mlflow_store.sync(runs).created == 4
    assert stored(runs) == first


def test_a_damaged_run_is_named_and_the_others_are_shown(runs: Path):
    damaged = [make_run(runs, spec_of(seed)) for seed in (0, 1, 2)]
    (damaged[0].path / "metrics.jsonl").write_text("{\n")
    (damaged[1].path / "spec.yaml").write_text("method: [")
    (damaged[2].path / "result.json").write_text("{")
    make_run(runs, spec_of(3))
    summary = mlflow_store.sync(runs)
    assert summary.created == 1 and set(summary.failed) == {run.key for run in damaged}
    assert all(run.key in str(summary) for run in damaged)
    assert set(stored(runs)) == {spec_of(3).key, "cris +MaskRIS tiny"}


def test_what_a_user_deleted_in_mlflow_comes_back(runs: Path):
    spec = spec_of()
    make_run(runs, spec)
    mlflow_store.sync(runs)
    first = stored(runs)
    client = mlflow_client.client_of(mlflow_client.default_uri(runs))
    experiment = client.get_experiment_by_name("refcoco+").experiment_id
    for run in client.search_runs([experiment]):
        if run.info.run_name != spec.key:
            client.delete_run(run.info.run_id)
    mlflow_store.sync(runs)
    assert stored(runs) == first
    client.delete_experiment(experiment)
    mlflow_store.sync(runs)
    assert stored(runs) == first


def test_a_store_that_cannot_be_used_is_one_sentence_and_loses_nothing(runs: Path, tmp_path: Path):
    run = make_run(runs, spec_of())
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "text.db").write_text("this is no database, and long enough to be read as one" * 10)
    addresses = {
        f"http://user:secret@127.0.0.1:{port}": "Connection refused",
        f"sqlite:///{tmp_path / 'text.db'}": "not a database",
        "sqlite:////proc/nowhere/mlflow.db": "cannot write",
        "sqlite://": "names no file",
        str(tmp_path): "no tracking address",
        f"file://{tmp_path}": "'file' is not known",
        "gopher://host/db": "'gopher' is not known",
    }
    for address, words in addresses.items():
        with pytest.raises(UserError, match=words) as error:
            mlflow_store.sync(runs, address)
        assert "\n" not in str(error.value) and "secret" not in str(error.value)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    assert mlflow_store.sync(runs).created == 1
    with pytest.raises(UserError, match="no folder"):
        mlflow_store.sync(tmp_path / "elsewhere")
