"""No annotated mask reaches a weakly supervised loss, and what such methods need besides."""

import json
import shutil

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import methods
from benchmark.base.errors import UserError
from benchmark.base.pretrained import Source
from benchmark.base.rng import generator
from benchmark.cli.app import app, guarded
from benchmark.data.samples import TrainingSamples
from benchmark.evaluation import inference
from benchmark.evaluation.text_blind_scores import read_scores, scores_path
from benchmark.runs.costs import read_costs
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training import pseudo_masks
from benchmark.training.trainer import Trainer
from tests.helpers import copied, tiny_spec

WEAK = [name for name in methods.names() if methods.definition(name).weakly_supervised]
WITHOUT_MASKS = ["sag", "tris"]

pytestmark = pytest.mark.usefixtures("no_pictures")
SHORT = {"epochs": 2, "batch_size": 4, "micro_batch": 4}


@pytest.fixture(scope="module")
def shuffled(boxes, tmp_path_factory):
    """The boxes with the masks of the training images dealt out anew among their annotations."""
    root = tmp_path_factory.mktemp("shuffled") / "data"
    shutil.copytree(boxes, root)
    path = root / "refcoco" / "instances.json"
    instances = json.loads(path.read_text())
    train = [entry for entry in instances["annotations"] if (entry["image_id"] - 1) % 10 < 6]
    masks = [entry["segmentation"] for entry in train]
    for entry, number in zip(train, generator("shuffled").permutation(len(masks)), strict=True):
        entry["segmentation"] = masks[number]
    path.write_text(json.dumps(instances))
    return root


def train(root, folder, method, strategy):
    spec, places = tiny_spec(root, method, strategy)
    run = RunDir(folder / spec.key)
    run.create(spec)
    Trainer(spec, run, Opened(places), Execution.of(device="cpu", log_every=2)).train()
    return run


@pytest.mark.parametrize("strategy", ["baseline", "maskris"])
@pytest.mark.parametrize("method", WITHOUT_MASKS)
def test_shuffled_training_masks_change_nothing(trained, shuffled, tmp_path, method, strategy):
    runs = [trained(method, strategy), train(shuffled, tmp_path, method, strategy)]
    assert runs[0].key != runs[1].key, "the data differ"
    first, second = (load_file(run.path / "best.safetensors") for run in runs)
    assert first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )
    assert runs[0].metrics() == runs[1].metrics()


def test_the_shuffle_would_be_seen(trained, shuffled, tmp_path):
    """The same test on a supervised method fails: the masks are not the same."""
    runs = [trained("lavt", "baseline"), train(shuffled, tmp_path, "lavt", "baseline")]
    first, second = (load_file(run.path / "best.safetensors") for run in runs)
    assert not all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", WITHOUT_MASKS)
def test_no_mask_is_even_decoded(boxes, monkeypatch, method):
    spec, places = tiny_spec(boxes, method, "baseline")
    dataset, tokenizer = Opened(places).run(spec)
    needs = methods.get(method)(spec.network, tokenizer.size).needs
    monkeypatch.setattr(type(dataset), "mask", lambda *_: pytest.fail("a mask was read"))
    samples = TrainingSamples(dataset, "train", needs, tokenizer, 0)
    samples.preload()
    raw = samples.batch([0, 1, 2], 0)
    assert raw.targets is None and raw.prepare(needs, torch.device("cpu")).targets is None


@pytest.mark.parametrize("name", methods.names())
def test_supervision_is_said_the_same_way_twice(name):
    kind = methods.get(name)
    with torch.device("meta"):
        needs = kind(kind.definition.variants["tiny"], 100).needs
    assert kind.definition.weakly_supervised == (needs.masks != "annotated")


def test_the_auxiliary_is_trained_once_and_shared(boxes, tmp_path):
    """Both strategies and a later run take the same file. Its cost is in their timing."""
    runs = [train(boxes, tmp_path, "tris", strategy) for strategy in ("baseline", "maskris")]
    (kept,) = (tmp_path / ".auxiliary").glob("*.safetensors")
    seconds = {read_costs(run).auxiliary_seconds for run in runs}
    assert len(seconds) == 1 and seconds.pop() > 0
    before = kept.stat().st_mtime_ns
    spec, places = tiny_spec(boxes, "tris", "baseline", seeds=(1,))
    trainer = Trainer(spec, RunDir(tmp_path / spec.key), Opened(places), Execution.of(device="cpu"))
    trainer.train()
    assert kept.stat().st_mtime_ns == before
    whole = kept.read_bytes()
    kept.write_bytes(whole[:50])
    with pytest.raises(UserError, match="is damaged: delete it"):
        Trainer(
            spec, RunDir(tmp_path / spec.key), Opened(places), Execution.of(device="cpu")
        ).train()
    kept.write_bytes(whole)
    stored = load_file(kept)
    assert all(
        torch.equal(value, stored[name])
        for name, value in trainer.method.auxiliary.state_dict().items()
    )


def test_step_two_is_trained_on_what_step_one_says(boxes, trained, tmp_path):
    """Every training ref gets a pseudo mask, and a run without them is told how to make them."""
    spec, places = tiny_spec(boxes, "tris_step2", "baseline")
    with pytest.raises(
        UserError, match=f"{spec.recipe.pseudo_masks}.*make them with `risbench matrix`"
    ):
        Trainer(
            spec, RunDir(tmp_path / spec.key), Opened(places), Execution.of(device="cpu")
        ).train()
    whole = trained("tris", "baseline")
    (first,) = copied(tmp_path, whole)
    spec, places = tiny_spec(
        boxes, "tris_step2", "maskris", recipes={"tris_step2": {**SHORT, "pseudo_masks": first.key}}
    )
    run = RunDir(tmp_path / spec.key)
    run.create(spec)
    with pytest.raises(UserError, match=f"`risbench pseudo-masks {first.key}`"):
        Trainer(spec, run, Opened(places), Execution.of(device="cpu"))
    loaded = inference.load(first, Opened(places), "cpu")
    pseudo_masks.make(first, loaded, Source(), Console(quiet=True))
    (before,) = (whole.path.parent / ".auxiliary").glob("*.safetensors")
    again = load_file(tmp_path / ".auxiliary" / before.name)
    for name, value in load_file(before).items():
        assert torch.equal(again[name], value), "an auxiliary that is gone is trained again"
    made = json.loads((first.path / "pseudo.json").read_text())
    refs = loaded.dataset.refs_of("train")
    assert set(made) == {str(ref.ref_id) for ref in refs}
    read = pseudo_masks.reader(tmp_path, first.key)
    info = loaded.dataset.info(refs[0].image_id)
    assert read(refs[0]).shape == (info.height, info.width)
    Trainer(spec, run, Opened(places), Execution.of(device="cpu")).train()
    assert run.status().state == "done" and first.key in (run.path / "spec.yaml").read_text()


def test_evaluation_says_what_can_be_had_without_the_sentence(trained, tmp_path, capsys):
    (run,) = copied(tmp_path, trained("sag", "baseline"))
    command = ["evaluate", run.key, "--runs", str(tmp_path), "--text-blind", "--noise-seeds", "2"]
    assert guarded(lambda: app(command, standalone_mode=False)) == 0
    out = capsys.readouterr().out
    assert (
        "best constant mask" in out and "over 2 noise seeds" in out and "standard deviation" in out
    )
    for value in read_scores(run, "val").values():
        assert f"{100 * value:.2f}" in out, "what was printed is kept"
    assert (
        guarded(lambda: app(["evaluate", run.key, "--runs", str(tmp_path), "--protocol", "lavt"]))
        == 2
    )
    assert "leave --protocol out" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["lavt", *WITHOUT_MASKS])
def test_a_weakly_supervised_run_keeps_its_text_blind_numbers(trained, tmp_path, capsys, method):
    (run,) = copied(tmp_path, trained(method, "baseline"))
    kept = {split: read_scores(run, split) for split in run.spec().selection.report}
    if method not in WITHOUT_MASKS:
        assert not any(kept.values())
        return
    path = scores_path(run, "val")
    trained_bytes = path.read_bytes()
    path.unlink()
    command = ["evaluate", run.key, "--runs", str(tmp_path), "--text-blind"]
    assert guarded(lambda: app(command, standalone_mode=False)) == 0
    assert path.read_bytes() == trained_bytes and all(kept.values())


def test_only_methods_that_make_pseudo_masks_are_asked_for_them(boxes, tmp_path):
    spec, places = tiny_spec(boxes, "lavt", "baseline")
    dataset, tokenizer = Opened(places).run(spec)
    run = RunDir(tmp_path / spec.key)
    run.create(spec)
    method = methods.get("lavt")(spec.network, tokenizer.size)
    with pytest.raises(UserError, match="lavt makes no pseudo masks"):
        loaded = inference.Loaded(run.key, method, dataset, tokenizer, torch.device("cpu"))
        pseudo_masks.make(run, loaded, Source(), Console(quiet=True))
