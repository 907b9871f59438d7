"""The best checkpoint as a registered model, which another process loads and asks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark.data import tokenizers
from benchmark.evaluation import inference
from benchmark.runs.execution import Places
from benchmark.runs.opened import Opened
from benchmark.tracking import mlflow_client, mlflow_store
from benchmark.tracking.mlflow_models import best_of
from benchmark.tracking.projection import Entry
from tests.helpers import PROJECT, copied
from tests.tracking.stores import make_run, spec_of

CODE = """
import json, sys
import mlflow

uri, name, image, sentence = sys.argv[1:]
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model(f"models:/{name}@best")
(mask,) = model.predict({"image": image, "sentence": sentence})["mask"]
print(json.dumps(mask.tolist()))
"""


def test_another_process_loads_the_best_model_and_predicts(trained, boxes, runs):
    (run,) = copied(runs, trained("lavt", "baseline"))
    summary = mlflow_store.sync(runs)
    assert not summary.unregistered and not summary.failed
    loaded = inference.load(run, Opened(Places(boxes, runs=runs)), "cpu")
    images = sorted((boxes / "images" / "train2014").glob("*.jpg"))
    masks = {path: inference.segment(loaded, path, "the red one")[1] for path in images}
    image = max(images, key=lambda path: masks[path].mean())
    uri = mlflow_client.default_uri(runs)
    arguments = [uri, "lavt-tiny-baseline-refcoco", str(image), "the red one"]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    predicted = np.array(json.loads(done.stdout.splitlines()[-1]))
    assert masks[image].any() and np.array_equal(predicted, masks[image])


def test_a_model_holds_no_pickle_and_no_copy_when_nothing_is_new(trained, runs):
    copied(runs, trained("cris", "baseline"))
    mlflow_store.sync(runs)
    (folder,) = (runs / "mlartifacts").glob("*/models/*/artifacts")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    run = {f"artifacts/run/{name}" for name in ("best.safetensors", "spec.yaml", "vocabulary.json")}
    about = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt"}
    assert files == run | about | {"model.py"}
    assert (folder / "model.py").read_text() == (
        PROJECT / "benchmark" / "tracking" / "model.py"
    ).read_text()
    # A ledger that is lost makes the next pass look at everything again.
    (runs / "mlflow.db.ledger.json").unlink()
    mlflow_store.sync(runs)
    client = mlflow_client.client_of(mlflow_client.default_uri(runs))
    assert len(client.search_model_versions("name = 'cris-tiny-baseline-refcoco'")) == 1
    assert len([*(runs / "mlartifacts").glob("*/models/*/artifacts")]) == 1


def test_the_best_by_the_selection_metric_is_named_best(trained, runs):
    made = copied(runs, trained("cris", "baseline"), trained("cris", "baseline", seeds=(1,)))
    client = mlflow_client.client_of(mlflow_client.default_uri(runs))
    # Each of them is the best once.
    for worse, better in (made, made[::-1]):
        for run, value in ((worse, 0.25), (better, 0.75)):
            result = run.read_json("result.json")
            result["selected"][result["selected"]["metric"]] = value
            run.write_json("result.json", result)
        mlflow_store.sync(runs)
        best = client.get_model_version_by_alias("cris-tiny-baseline-refcoco", "best")
        assert best.tags["risbench.run"].split()[0] == better.key


def test_a_model_whose_vocabulary_cannot_be_made_is_named(runs: Path):
    make_run(runs, spec_of())
    summary = mlflow_store.sync(runs)
    assert "put them back" in summary.unregistered["cris-tiny-maskris-refcocoplus"]
    assert summary.created == 1 and "no model cris-tiny-maskris-refcocoplus" in str(summary)


@pytest.mark.parametrize("family", tokenizers.FAMILIES)
def test_a_trained_tokenizer_survives_as_text(family):
    sentences = ["the red box", "a blue one on the left", "green"]
    tokenizer = tokenizers.trained_tokenizer(family, sentences)
    again = tokenizers.from_text(tokenizers.as_text(tokenizer))
    assert again == tokenizer
    text, other = (its.encode(["the yellow box, [MASK]"], 12) for its in (tokenizer, again))
    assert (text.ids == other.ids).all()


def test_a_model_whose_data_come_back_is_registered_later(trained, runs, tmp_path):
    (run,) = copied(runs, trained("cris", "baseline"))
    environment = run.read_json("environment.json")
    there, link = environment["data"]["root"], tmp_path / "data"
    environment["data"]["root"] = str(link)
    run.write_json("environment.json", environment)
    name = "cris-tiny-baseline-refcoco"
    for _ in range(2):  # It is said again as long as it is so.
        assert "put them back" in mlflow_store.sync(runs).unregistered[name]
    link.symlink_to(there)
    summary = mlflow_store.sync(runs)
    assert not summary.unregistered and summary.unchanged == 1
    client = mlflow_client.client_of(mlflow_client.default_uri(runs))
    assert client.get_model_version_by_alias(name, "best").tags["risbench.run"].startswith(run.key)


def test_only_numbers_of_one_metric_and_split_are_ranked(runs):
    entries = []
    for seed, metric, value in ((0, "oiou", 0.5), (1, "oiou", 0.6), (2, "miou", 0.9)):
        run = make_run(runs, spec_of(seed))
        selected = {metric: value, "epoch": 1, "split": "val", "metric": metric}
        run.write_json("result.json", {"selected": selected})
        entries.append(Entry(run, []))
    (best,) = best_of(entries).values()
    assert best.spec.seed == 1


def test_a_first_sync_says_what_it_did_and_nothing_else(trained, runs):
    copied(runs, trained("cris", "baseline"))
    command = [sys.executable, "-m", "benchmark.cli", "sync", "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=300)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == "1 runs created, 0 updated, 0 unchanged\n"
