"""Finished runs under conditions: plain numbers, nothing computed twice, nothing lost."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmark.base.errors import Interrupted, UserError
from benchmark.evaluation import metrics
from benchmark.evaluation.inference import load
from benchmark.evaluation.predict import evaluate
from benchmark.robustness import run as run_module
from benchmark.robustness.covered_words import CoveredWords
from benchmark.robustness.occlusion import Occlusion
from benchmark.robustness.results import finished_conditions, read_results, results_path
from benchmark.robustness.run import evaluate_conditions
from benchmark.runs.execution import Execution, Places
from benchmark.runs.opened import opened_for
from tests.robustness.asking import CONDITIONS, QUIET, ask, opened


def test_records_are_those_of_a_plain_evaluation_of_transformed_images(fresh):
    ask(fresh)
    for run in fresh:
        loaded = load(run, opened(run), "cpu")
        for condition in CONDITIONS[:2]:
            plain = evaluate(
                loaded.method,
                loaded.dataset,
                "val",
                loaded.tokenizer,
                loaded.device,
                transform=condition,
            )
            pd.testing.assert_frame_equal(read_results(run, "val", condition), plain)
        summary = json.loads((run.path / "robustness/val/metrics.json").read_text())
        assert summary.keys() == {str(condition) for condition in CONDITIONS}
        assert (
            summary["fog-5"]["oiou"] == metrics.compute(read_results(run, "val", "fog-5"))["oiou"]
        )


def test_nothing_covered_is_the_clean_split(fresh):
    ask(fresh, [Occlusion("referent", 0), Occlusion("image", 0)])
    for run in fresh:
        clean = run.records("val")
        assert read_results(run, "val", "image-0").equals(clean)
        own_picture = read_results(
            run, "val", "referent-0"
        )  # other company in the batch: a pixel may move
        assert (own_picture["sent_id"] == clean["sent_id"]).all()
        assert np.abs(own_picture["intersection"] - clean["intersection"]).max() <= 2
        assert own_picture["swapped_union"].isna().all(), (
            "in a referent's own picture nothing else is asked"
        )


def test_every_image_is_changed_once_for_all_runs_and_encoded_once_per_run(fresh, monkeypatch):
    from benchmark.robustness import corruptions

    changed, corrupt = [], corruptions.corrupt
    monkeypatch.setattr(
        corruptions, "corrupt", lambda *given: changed.append(given[1:]) or corrupt(*given)
    )
    meters = ask(fresh, CONDITIONS[:2])
    images = sorted({int(number) for number in fresh[0].records("val")["image_id"]})
    assert sorted(changed) == sorted(
        (its.corruption, its.severity, image) for its in CONDITIONS[:2] for image in images
    )
    for run in fresh:
        assert meters[run.key].counts["encode"] == 2 * len(images)
        assert meters[run.key].counts["segment"] == 2 * len(fresh[0].records("val"))


def test_finished_conditions_are_never_asked_again_and_a_stop_loses_none(fresh, monkeypatch):
    ask(fresh[:1], CONDITIONS[:1])
    kept = results_path(fresh[0], "val", CONDITIONS[0]).stat().st_mtime_ns
    records_of, calls = run_module.records_of, []

    def stop(prediction):
        calls.append(prediction)
        if len(calls) == 7:  # two images and two runs: in the middle of the third condition
            raise KeyboardInterrupt
        return records_of(prediction)

    monkeypatch.setattr(run_module, "records_of", stop)
    with pytest.raises(Interrupted, match="goes on from there"):
        ask(fresh)
    monkeypatch.setattr(run_module, "records_of", records_of)
    assert finished_conditions(fresh[0], "val") == ["fog-5", "gaussian_noise-3"]
    assert finished_conditions(fresh[1], "val") == ["fog-5", "gaussian_noise-3"]
    assert (fresh[0].path / "robustness/val/metrics.json").exists(), "what is there is shown"
    meters = ask(fresh)
    assert meters["images"].counts["decode"] == 2 * 2, "two conditions of two images were left"
    assert results_path(fresh[0], "val", CONDITIONS[0]).stat().st_mtime_ns == kept
    assert ask(fresh).keys() == {"images"}, "nothing left: no network is even loaded"


def test_covered_words_have_a_record_for_every_word_and_one_for_none(fresh):
    from benchmark.robustness.covered_words import read_covered

    ask(fresh, [CoveredWords()])
    for run in fresh:
        clean = run.records("val")
        covered = read_covered(read_results(run, "val", "words"))
        assert len(covered) == len(clean) + clean["sentence"].str.split().str.len().sum()
        none = covered[covered["position"] == -1].set_index("sent_id")
        assert (none.index == clean["sent_id"]).all()
        assert np.abs(none["union"].to_numpy() - clean["union"].to_numpy()).max() <= 2
        for row in covered[covered["position"] >= 0].itertuples():
            assert row.sentence.split()[row.position] == row.word


def test_a_run_that_is_trained_again_is_asked_again(fresh):
    from benchmark.training.trainer import Trainer

    run = fresh[0]
    ask([run], CONDITIONS[:1])
    for left in ("status.json", "best.safetensors"):
        (run.path / left).unlink()
    spec = run.spec()
    Trainer(spec, run, opened(run), Execution.of(device="cpu")).train()
    assert finished_conditions(run, "val") == []


def test_splits_and_conditions_that_cannot_be_asked_are_named_at_once(fresh, capsys):
    with pytest.raises(UserError, match="split of run .* 'train' is not known"):
        evaluate_conditions(fresh, ["val", "train"], CONDITIONS[:1], opened, QUIET, device="cpu")
    assert finished_conditions(fresh[0], "val") == []


def test_an_image_that_a_corruption_cannot_take_is_named_and_left_out(fresh, monkeypatch):
    from benchmark.robustness import corruptions

    small = int(fresh[0].records("val")["image_id"].iloc[0])
    whole = corruptions.corrupt

    def corrupt(pixels, corruption, severity, image_id):
        if image_id == small:
            raise corruptions.TooSmall(
                f"image {image_id} is 9 x 9 pixels and fog needs more", image_id
            )
        return whole(pixels, corruption, severity, image_id)

    monkeypatch.setattr(corruptions, "corrupt", corrupt)
    console = Console(width=400, record=True, quiet=False, file=io.StringIO())
    shared = opened_for(Places(None, runs=fresh[0].path.parent))
    fog = corruptions.Condition("fog", 5)
    evaluate_conditions(fresh, ["val"], [fog, CONDITIONS[3]], shared, console, device="cpu")
    said = console.export_text()
    assert f"val fog-5: image {small} is 9 x 9 pixels and fog needs more. The numbers" in said
    for run in fresh:
        clean = set(run.records("val")["image_id"])
        assert set(read_results(run, "val", "fog-5")["image_id"]) == clean - {small}
        assert set(read_results(run, "val", CONDITIONS[3])["image_id"]) == clean
