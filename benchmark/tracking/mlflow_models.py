"""Registers the best checkpoint of each method, variant, strategy and data set as a model."""

import importlib.metadata
import shutil
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import mlflow.pyfunc
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from benchmark.base.errors import UserError
from benchmark.data import tokenizers
from benchmark.runs.execution import Places
from benchmark.runs.opened import Opened
from benchmark.tracking.mlflow_files import part_digest
from benchmark.tracking.projection import Entry, storable

CODE = Path(__file__).with_name("model.py")
VOCABULARY = "vocabulary.json"
WEIGHTS = "best.safetensors"
ALIAS = "best"
MADE_FROM = "risbench.run"  # tag: run key and digest of the weights
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "image"), ColSpec(DataType.string, "sentence")]),
    outputs=Schema([ColSpec(Array(Array(DataType.boolean)), "mask")]),
)


def model_name(entry: Entry) -> str:
    """Return the name of the registered model that a run may be the best of."""
    spec = entry.spec
    return storable(f"{spec.method}-{spec.variant}-{spec.strategy.name}-{spec.dataset}")


def best_of(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Return name of the model -> its best finished run, by the metric that chose the epoch.

    Numbers of another metric, split or way of splitting are not comparable, so of a model's runs
    those enter that most of them agree with.
    """
    found: dict[str, dict[tuple[str, ...], list[tuple[float, Entry]]]] = {}
    for entry in entries:
        selected = entry.run.read_json("result.json").get("selected", {})
        value = selected.get(selected.get("metric"))
        if entry.state != "done" or value is None or not (entry.run.path / WEIGHTS).exists():
            continue
        what = (entry.spec.split_by, selected.get("split", ""), selected["metric"])
        found.setdefault(model_name(entry), {}).setdefault(what, []).append((value, entry))
    best = {}
    for name, alike in found.items():
        most = max(alike.values(), key=len)
        best[name] = max(most, key=lambda its: its[0])[1]
    return best


def register(
    client: MlflowClient, experiment_id: str, name: str, entry: Entry, run_id: str
) -> None:
    """Make a run the best of its model, unless it is already.

    Args:
        client: of the store.
        experiment_id: of the run.
        name: of the registered model.
        entry: the run.
        run_id: what MLflow calls it.

    Raises:
        UserError: the run trained its own vocabulary, and the data that it comes from are gone.
    """
    source = f"{entry.run.key} {part_digest([entry.run.path / WEIGHTS])}"
    versions = {}
    for version in client.search_model_versions(f"name = '{name}'"):
        versions[version.tags.get(MADE_FROM)] = version
    if source in versions and ALIAS in _aliases(client, name, versions[source].version):
        return
    if not versions:
        _create(client, name)
    if source not in versions:
        model = _logged(client, experiment_id, entry, run_id, source)
        versions[source] = client.create_model_version(
            name, model.artifact_location, run_id, {MADE_FROM: source}, model_id=model.model_id
        )
    client.set_registered_model_alias(name, ALIAS, versions[source].version)


def _aliases(client: MlflowClient, name: str, version: str) -> list[str]:
    known = client.get_registered_model(name).aliases
    return [alias for alias, owner in known.items() if str(owner) == str(version)]


def _create(client: MlflowClient, name: str) -> None:
    how = (
        f'mlflow.pyfunc.load_model("models:/{name}@{ALIAS}") takes the path of an image and a'
        " sentence, and predicts the mask. It needs the package risbench."
    )
    try:
        client.create_registered_model(name, description=how)
    except MlflowException as error:
        # A pass that was interrupted made it.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _logged(
    client: MlflowClient, experiment_id: str, entry: Entry, run_id: str, source: str
) -> LoggedModel:
    """Return the logged model of a run, which is made if it is not there."""
    for known in client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'"):
        if known.status == LoggedModelStatus.READY and known.tags.get(MADE_FROM) == source:
            return known
        if known.status != LoggedModelStatus.READY:
            client.delete_logged_model(known.model_id)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        _save(entry, Path(temporary) / "run", folder)
        model = client.create_logged_model(
            experiment_id, storable(entry.run.key), run_id, {MADE_FROM: source}
        )
        client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return model


def _save(entry: Entry, files: Path, folder: Path) -> None:
    """Write a run as an MLflow model: code of the package, spec, weights and vocabulary."""
    files.mkdir()
    for name in ("spec.yaml", WEIGHTS):
        shutil.copy(entry.run.path / name, files / name)
    if entry.spec.network.pretrained == "scratch":
        (files / VOCABULARY).write_text(_vocabulary(entry))
    with warnings.catch_warnings():
        # MLflow would have an example of the input, but there is no photograph to give.
        warnings.simplefilter("ignore", UserWarning)
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(CODE),
            artifacts={"run": str(files)},
            signature=SIGNATURE,
            pip_requirements=[f"risbench=={importlib.metadata.version('risbench')}"],
        )


def _vocabulary(entry: Entry) -> str:
    """Return the vocabulary that a run trained, made again from its training sentences."""
    data = entry.run.read_json("environment.json").get("data")
    if data is None or not Path(data["root"]).is_dir():
        raise UserError(
            "its vocabulary comes from its data, which are not where they were: put them back and"
            " `risbench sync` registers it."
        )
    places = Places(Path(data["root"]), images=Path(data["images"]), runs=entry.run.path.parent)
    _, tokenizer = Opened(places).run(entry.spec)
    return tokenizers.as_text(tokenizer)
