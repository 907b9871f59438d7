"""Run directories with made-up numbers, and what MLflow holds of them."""

import io
from pathlib import Path

import pandas as pd
from mlflow.tracking import MlflowClient
from PIL import Image

import methods
from benchmark import strategies
from benchmark.runs.groups import Cell, Group, write_plan
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec, Selection
from benchmark.tracking import mlflow_client, mlflow_experiment
from tests.helpers import PROJECT

ROOT = PROJECT
NUMBERS = {"oiou": 0.25, "miou": 0.5, "p_50": 0.75, "grounding_gap": None}


def spec_of(
    seed: int = 0, strategy: str = "maskris", dataset: str = "refcoco+", **changes: object
) -> RunSpec:
    cris = methods.definition("cris")
    return RunSpec(
        method="cris",
        variant="tiny",
        dataset=dataset,
        split_by="unc",
        seed=seed,
        strategy=strategies.get(strategy),
        recipe=cris.recipes["tiny"].model_copy(update=changes),
        network=cris.variants["tiny"],
        selection=Selection(metric="oiou"),
        data_sha256="d" * 64,
        tokenizer="clip-words",
        weights="scratch",
        method_revision=1,
    )


def plan(runs: Path, name: str, kind: str, *cells: Cell) -> None:
    write_plan(runs, Group(name, kind, cells=[*cells]))


def make_run(
    runs: Path, spec: RunSpec, state: str = "done", lines: int = 4, oiou: float = 0.25
) -> RunDir:
    """Write a run directory as training leaves it, with made-up numbers."""
    run = RunDir(runs / spec.key)
    run.create(spec)
    for number in range(1, lines + 1):
        run.log(
            10 * number,
            (number - 1) // 2,
            {"train/loss": 1 / number, "train/loss_ce": 2 / number, "lr": 1e-3},
        )
        if number % 2 == 0:
            run.log(
                10 * number,
                number // 2 - 1,
                {f"val/{name}": value for name, value in NUMBERS.items()},
            )
    run.write_json("environment.json", {"git": {"commit": "c0ffee", "dirty": False}})
    if state == "done":
        run.write_records("testA", pd.DataFrame({"sent_id": [1, 2], "intersection": [3, 4]}))
        (run.path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), "red").save(picture := io.BytesIO(), format="PNG")
        (run.path / "images" / "val_7.png").write_bytes(picture.getvalue())
        (run.path / "best.safetensors").write_bytes(b"weights")
        selected = {"oiou": 0.25, "epoch": 1, "split": "val", "metric": "oiou"}
        run.write_json(
            "result.json",
            {"selected": selected, "val": NUMBERS, "testA": {**NUMBERS, "oiou": oiou}},
        )
        run.write_json("timing.json", {"training_seconds": 1.5, "peak_gpu_bytes": None})
    reason = {"reason": "the loss became nan"} if state == "failed" else {}
    run.write_status(state, host="elsewhere", **reason)  # which holds it while it is running
    return run


def stored(runs: Path, uri: str | None = None) -> dict[str, dict]:
    """Return run key or name -> everything that MLflow holds of it, without its ids."""
    client = mlflow_client.client_of(uri or mlflow_client.default_uri(runs))
    found = [
        run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id])
        if experiment.name != "Default"
    ]
    names = {run.info.run_id: run.data.tags[mlflow_experiment.NAME] for run in found}
    assert len(set(names.values())) == len(found), "a run is there twice"
    content = {}
    for run in found:
        name = names[run.info.run_id]
        content[name] = {
            "name": run.info.run_name,
            "experiment": client.get_experiment(run.info.experiment_id).name,
            "status": run.info.status,
            "times": (
                run.info.start_time,
                run.info.end_time if run.info.status != "RUNNING" else None,
            ),
            "params": run.data.params,
            "tags": {
                tag: _without_ids(value, names)
                for tag, value in run.data.tags.items()
                if tag != mlflow_experiment.PARENT
            },
            "parent": names.get(run.data.tags.get(mlflow_experiment.PARENT)),
            "inputs": {
                (its.dataset.name, its.dataset.digest, its.tags[0].value): its.dataset.profile
                for its in run.inputs.dataset_inputs
            },
            "points": {
                name: [
                    (point.step, point.value)
                    for point in client.get_metric_history(run.info.run_id, name)
                ]
                for name in run.data.metrics
            },
            "files": _files(client, run.info.run_id, ""),
        }
    return content


def _files(client: MlflowClient, run_id: str, folder: str) -> dict[str, int]:
    files = {}
    for item in client.list_artifacts(run_id, folder):
        files |= _files(client, run_id, item.path) if item.is_dir else {item.path: item.file_size}
    return files


def _without_ids(text: str, names: dict[str, str]) -> str:
    for run_id, name in names.items():
        text = text.replace(run_id, name)
    return text
