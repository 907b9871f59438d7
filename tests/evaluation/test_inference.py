"""Loaded networks: of runs and of checkpoint files, what they score on a split, one photograph."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import methods
from benchmark.base.errors import UserError
from benchmark.evaluation import bootstrap, checkpoint_files, inference, metrics
from benchmark.evaluation.predict import evaluate
from benchmark.evaluation.split_results import evaluate_split, noise_numbers
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from tests.helpers import tiny_spec


@pytest.fixture(scope="module")
def made(boxes, tmp_path_factory):
    """A run with weights that were not trained, and what reads its data."""
    spec, places = tiny_spec(boxes, "cris")
    run, opened = RunDir(tmp_path_factory.mktemp("runs") / spec.key), Opened(places)
    run.create(spec)
    method = inference.build_method(spec, opened.run(spec)[1])
    weights = {name: value.contiguous() for name, value in method.state_dict().items()}
    save_file(weights, run.path / "best.safetensors")
    return run, opened


def test_a_run_is_loaded_with_its_best_weights(made):
    run, opened = made
    loaded = inference.load(run, opened, "cpu")
    assert loaded.name == run.key and not loaded.method.training
    for name, value in inference.best_weights(run).items():
        assert torch.equal(loaded.method.state_dict()[name], value)
    assert inference.load(run, opened, "cpu").dataset is loaded.dataset, "data are read once"


def test_a_run_without_weights_is_refused(made, tmp_path):
    run, opened = made
    other = RunDir(tmp_path / run.key)
    other.create(run.spec())
    with pytest.raises(UserError, match="has no weights yet"):
        inference.load(other, opened, "cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(made, value, tmp_path):
    run, opened = made
    other = RunDir(tmp_path / run.key)
    other.create(run.spec())
    weights = inference.best_weights(run)
    name = sorted(name for name, its in weights.items() if its.is_floating_point())[3]
    weights[name].view(-1)[-1] = value
    save_file(weights, other.path / "best.safetensors")
    with pytest.raises(UserError, match=f"weights of run {run.key} are not finite in {name}"):
        inference.load(other, opened, "cpu")
    form, ending = next(iter(checkpoint_files.FORMS.items()))
    out = tmp_path / f"out{ending}"
    checkpoint_files.export(run, opened.places, weights, form, out)
    with pytest.raises(UserError, match=f"weights of .*out{ending} are not finite in {name}"):
        inference.load_checkpoint(out, "cris", "tiny", "refcoco", "unc", opened, "cpu")


@pytest.mark.parametrize("form", checkpoint_files.FORMS)
def test_an_export_is_loaded_as_a_checkpoint(made, form, tmp_path):
    run, opened = made
    out = tmp_path / f"out{checkpoint_files.FORMS[form]}"
    weights = inference.best_weights(run)
    assert checkpoint_files.export(run, opened.places, weights, form, out) == out
    fits = []
    loaded = inference.load_checkpoint(
        out, "cris", "tiny", "refcoco", "unc", opened, "cpu", fits.append
    )
    assert loaded.name == f"cris tiny of {out.name}" and not fits[0].unknown and not fits[0].missing
    for name, value in inference.best_weights(run).items():
        assert torch.equal(loaded.method.state_dict()[name], value)


def test_a_file_that_does_not_fit_is_described_before_it_is_refused(made, tmp_path):
    """A file of other people says nothing of its variant, and a published one is looked for."""
    _, opened = made
    with torch.device("meta"):
        method = methods.get("cris")(methods.definition("cris").variants["paper-rn50"], 49408)
    state = {name: torch.zeros(1) for name in method.network.state_dict()}
    state = methods.get("cris").weights.checkpoint(state)
    torch.save(state, tmp_path / "x.pth")
    fits = []
    with pytest.raises(UserError, match="does not fit this variant of cris"):
        inference.load_checkpoint(
            tmp_path / "x.pth", "cris", "paper-rn50", "refcoco", "unc", opened, "cpu", fits.append
        )
    assert fits[0].mismatch


def test_names_are_checked_before_anything_is_read(made, tmp_path):
    _, opened = made
    for method, variant, device, message in (
        ("crsi", "tiny", "cpu", "did you mean cris"),
        ("cris", "tny", "cpu", "did you mean tiny"),
        ("cris", "tiny", "gpu", "device 'gpu' is not known"),
    ):
        with pytest.raises(UserError, match=message):
            inference.load_checkpoint(
                tmp_path / "absent.pth", method, variant, "refcoco", "unc", opened, device
            )


def test_the_results_of_a_split_are_data(made, capsys):
    run, opened = made
    loaded, seen = inference.load(run, opened, "cpu"), []
    results = evaluate_split(loaded, "val", protocol="cris", text_blind=True, on_image=seen.append)
    dataset, tokenizer = loaded.dataset, loaded.tokenizer
    assert len(seen) == len({ref.image_id for ref in dataset.refs_of("val")})
    expected = evaluate(loaded.method, dataset, "val", tokenizer, loaded.device)
    assert results.records.equals(expected)
    assert results.numbers == pytest.approx(metrics.compute(expected), nan_ok=True)
    assert results.intervals == bootstrap.intervals(expected)
    assert set(results.as_published) == {"miou", "p_50", "p_60", "p_70", "p_80", "p_90"}
    assert set(results.text_blind) == {"constant", "mean", "max"}
    plain = evaluate_split(loaded, "val")
    assert plain.as_published == plain.text_blind == {}
    with pytest.raises(UserError, match="take --protocol cris"):
        evaluate_split(loaded, "val", protocol="lavt")
    numbers = noise_numbers(loaded, "val", results.records, 2)
    assert len(numbers) == 2 and numbers.iloc[0].equals(numbers.iloc[1]), "CRIS has no noise"
    assert capsys.readouterr().out == ""


def test_a_method_that_is_measured_as_published_anyway_has_no_protocol(made):
    loaded = inference.load(*made, "cpu")

    class Weak:
        definition = dataclasses.replace(loaded.method.definition, weakly_supervised=True)

    with pytest.raises(UserError, match="leave --protocol out"):
        evaluate_split(dataclasses.replace(loaded, method=Weak()), "val", protocol="lavt")


def test_a_photograph_is_segmented_at_its_own_size(made, tmp_path):
    loaded = inference.load(*made, "cpu")
    photograph = tmp_path / "photo.png"
    Image.fromarray(np.full((41, 53, 3), 90, np.uint8)).save(photograph)
    (mask, overlay), fraction = inference.predict_file(loaded, photograph, "A red box", tmp_path)
    pixels = np.asarray(Image.open(mask))
    assert pixels.shape == (41, 53) and set(np.unique(pixels)) <= {0, 255}
    assert fraction == pytest.approx((pixels > 0).mean())
    assert Image.open(overlay).size == (53, 41)
    for path, sentence, message in (
        (tmp_path / "none.jpg", "a box", "there is no image"),
        (photograph, "  ", "the sentence is empty"),
        (__file__, "a box", "is no image that can be decoded"),
    ):
        with pytest.raises(UserError, match=message):
            inference.predict_file(loaded, path, sentence, tmp_path)
