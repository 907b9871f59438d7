"""Reports from what MLflow holds alone."""

import shutil

import pytest
from mlflow.entities import FileInfo
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from benchmark.base.errors import UserError
from benchmark.cli.app import app
from benchmark.runs.groups import Cell
from benchmark.tracking import mlflow_client, mlflow_fetch, mlflow_store
from tests.helpers import copied
from tests.tracking.stores import plan


@pytest.fixture
def two(trained, runs):
    """Return a folder with the finished runs of a plan, one for each strategy."""
    made = copied(runs, trained("cris", "baseline"), trained("cris", "maskris"))
    plan(runs, "pair", "preset", *(Cell.of(run.spec()) for run in made))
    examples = runs / "examples" / "pair"
    examples.mkdir(parents=True)
    (examples / "examples.json").write_text("[]")
    return runs


def test_the_same_report_comes_from_mlflow_alone(two, tmp_path):
    uri = f"sqlite:///{tmp_path}/store.db"
    mlflow_store.sync(two, uri)
    written = {}
    for name, options in {"own": ["--runs", str(two)], "store": ["--from-mlflow", uri]}.items():
        if name == "store":
            # Nothing is read from where the runs were.
            shutil.move(two, tmp_path / "away")
        out = tmp_path / name
        done = CliRunner().invoke(app, ["report", "pair", "--out", str(out), *options])
        assert done.exit_code == 0, done.output
        written[name] = {
            str(path.relative_to(out)): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file()
        }
    assert written["own"] == written["store"]
    assert {"pair/table.md", "pair/index.html"} <= written["own"].keys()


def test_a_store_is_laid_out_like_a_folder_of_runs(two):
    mlflow_store.sync(two)
    left = ("images", "best.safetensors", "state", "mlflow", "mlartifacts", ".")
    with mlflow_store.TRACKER.fetched(mlflow_client.default_uri(two)) as folder:
        for path in two.rglob("*"):
            parts = path.relative_to(two).parts
            if path.is_file() and not any(part.startswith(left) for part in parts):
                assert (folder / path.relative_to(two)).read_bytes() == path.read_bytes()
    assert not folder.exists()


def test_a_store_without_runs_is_one_sentence(runs, tmp_path):
    with (
        pytest.raises(UserError, match="no database"),
        mlflow_store.TRACKER.fetched(f"sqlite:///{tmp_path}/none.db"),
    ):
        pass
    with (
        pytest.raises(UserError, match="risbench sync"),
        mlflow_store.TRACKER.fetched(mlflow_client.default_uri(runs)),
    ):
        pass


def test_a_key_of_the_store_never_leaves_the_folder(two, tmp_path):
    mlflow_store.sync(two)
    uri = mlflow_client.default_uri(two)
    client = mlflow_client.client_of(uri)
    (experiment,) = [its for its in client.search_experiments() if its.name == "refcoco"]
    run = next(
        its for its in client.search_runs([experiment.experiment_id]) if "ris.key" in its.data.tags
    )
    client.set_tag(run.info.run_id, "ris.key", "../outside")
    with (
        pytest.raises(UserError, match="the key '../outside', which is no key"),
        mlflow_store.TRACKER.fetched(uri),
    ):
        pass


def test_an_experiment_of_somebody_else_is_left_alone(two, tmp_path):
    uri = f"sqlite:///{tmp_path}/shared.db"
    (tmp_path / "empty").mkdir()
    mlflow_store.sync(tmp_path / "empty", uri)
    client = mlflow_client.client_of(uri)
    theirs = client.create_experiment("refcoco")
    client.create_run(theirs)
    with pytest.raises(UserError, match="'refcoco' that is not of this suite"):
        mlflow_store.sync(two, uri)
    assert client.get_experiment(theirs).lifecycle_stage == "active"
    assert client.get_experiment(theirs).name == "refcoco"


def test_an_artifact_of_the_store_never_leaves_the_folder(two, monkeypatch):
    mlflow_store.sync(two)

    class Hostile(MlflowClient):
        def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
            return [FileInfo("../../outside", False, 7)]

    uri = mlflow_client.default_uri(two)
    monkeypatch.setattr(mlflow_fetch, "client_of", lambda address: Hostile(address, address))
    with (
        pytest.raises(UserError, match="'../../outside', which lies outside its run"),
        mlflow_store.TRACKER.fetched(uri),
    ):
        pass
