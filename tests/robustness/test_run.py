"""Asking finished runs under conditions: the numbers of a plain evaluation, nothing twice, nothing lost."""

import dataclasses
import itertools
import json
import tarfile

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmark.base.errors import Interrupted, UserError
from benchmark.cli.robustness import opened_for
from benchmark.evaluation import metrics
from benchmark.evaluation.inference import load
from benchmark.evaluation.predict import evaluate
from benchmark.robustness import run as run_module
from benchmark.robustness.conditions import (
    narrow_robustness,
    parse_condition,
    read_robustness_preset,
)
from benchmark.robustness.corruptions import Condition
from benchmark.robustness.covered_words import CoveredWords
from benchmark.robustness.images import Cache
from benchmark.robustness.occlusion import Occlusion
from benchmark.robustness.results import finished_conditions, read_results, results_path
from benchmark.robustness.run import evaluate_conditions
from benchmark.runs.execution import Execution, Places
from benchmark.runs.groups import write_plan
from benchmark.runs.preset import read_preset
from benchmark.runs.resolve import Opened, resolve_preset
from benchmark.runs.rundir import RunDir
from benchmark.tracking import mlflow_store
from benchmark.training import worker
from tests.helpers import copied

CONDITIONS = [
    Condition("gaussian_noise", 3),
    Condition("fog", 5),
    Occlusion("referent", 0),
    Occlusion("image", 50),
]
QUIET = Console(quiet=True)


@pytest.fixture
def fresh(trained, tmp_path):
    """Return two finished runs of one data set, of methods that are fed differently."""
    return copied(tmp_path / "runs", *(trained(name, "baseline") for name in ("cris", "lavt")))


def opened(run):
    return Opened(worker.places_of(run, Places(None, runs=run.path.parent)))


def ask(runs, its=CONDITIONS, **how):
    shared = opened_for(Places(None, runs=runs[0].path.parent))
    return evaluate_conditions(runs, ["val"], its, shared, QUIET, device="cpu", **how)


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


def test_worker_processes_change_no_bit(fresh):
    ask(fresh[:1], workers=2)
    inline = {str(its): read_results(fresh[0], "val", its) for its in CONDITIONS}
    ask(fresh[1:], workers=0)
    for its in CONDITIONS:
        results_path(fresh[0], "val", its).unlink()
    ask(fresh[:1], workers=0)
    for its in CONDITIONS:
        assert read_results(fresh[0], "val", its).equals(inline[str(its)])


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


def test_a_cache_is_lossless_and_says_its_size(fresh, tmp_path, monkeypatch):
    console = Console(record=True, width=200)
    evaluate_conditions(
        fresh[:1], ["val"], CONDITIONS, opened, console, device="cpu", cache=tmp_path / "cache"
    )
    assert "for 4 images in" in console.export_text()
    assert len(list((tmp_path / "cache").glob("*/*/*.png"))) == 4, (
        "two corruptions of two images, and no occlusion"
    )
    meters = ask(fresh[1:], cache=tmp_path / "cache")
    ask(fresh[1:])
    direct = {str(its): read_results(fresh[1], "val", its) for its in CONDITIONS}
    for its in CONDITIONS:
        results_path(fresh[1], "val", its).unlink()
    ask(fresh[1:])
    assert all(read_results(fresh[1], "val", its).equals(direct[str(its)]) for its in CONDITIONS)
    counts = meters["images"].counts
    assert (counts["decode"], counts["cache"], counts["corrupt"], counts["prepare"]) == (4, 4, 0, 8)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    with pytest.raises(UserError, match="make room, name fewer conditions, or leave --cache out"):
        ask(fresh, [Condition("snow", 1)], cache=tmp_path / "cache")
    assert finished_conditions(fresh[0], "val") == sorted(map(str, CONDITIONS))


@pytest.mark.parametrize("workers", (0, 1))
def test_what_is_wrong_with_an_image_is_one_sentence(fresh, monkeypatch, workers):
    from benchmark.robustness import corruptions

    noise = dataclasses.replace(corruptions.CORRUPTIONS.get("gaussian_noise"), smallest=70)
    monkeypatch.setattr(corruptions.CORRUPTIONS, "get", lambda name: noise)
    with pytest.raises(
        UserError, match="^image 7 is .* pixels and gaussian_noise needs 70 x 70"
    ) as raised:
        ask(fresh, workers=workers)
    assert "\n" not in str(raised.value) and finished_conditions(fresh[0], "val") == []


def test_a_damaged_cache_and_unfinished_runs_are_named(fresh, tmp_path):
    loaded = load(fresh[0], opened(fresh[0]), "cpu")
    image_id = int(fresh[0].records("val")["image_id"][0])
    path = Cache(tmp_path / "cache", loaded.dataset).path(CONDITIONS[0], image_id)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="is damaged; delete it"):
        ask(fresh, cache=tmp_path / "cache")
    with pytest.raises(UserError, match="'vall' is not known: did you mean val"):
        evaluate_conditions(fresh, ["vall"], CONDITIONS, opened, QUIET, device="cpu")
    with pytest.raises(UserError, match="was not evaluated under fog-5 on val"):
        read_results(fresh[0], "val", "fog-5")
    fresh[1].write_status("planned")
    with pytest.raises(UserError, match="is not finished"):
        ask(fresh)


def test_mlflow_shows_every_condition(fresh):
    ask(fresh[:1], [*CONDITIONS, CoveredWords()])
    runs = fresh[0].path.parent
    mlflow_store.sync(runs)
    client = mlflow_store._client(mlflow_store.default_uri(runs))
    experiment = client.get_experiment_by_name("refcoco")
    (shown,) = client.search_runs([experiment.experiment_id], f"tags.`ris.key` = '{fresh[0].key}'")
    expected = metrics.compute(read_results(fresh[0], "val", "fog-5"))
    assert shown.data.metrics["robust/val/fog/5/oiou"] == expected["oiou"]
    assert shown.data.metrics["robust/val/fog/5/miou"] == expected["miou"]
    assert {"robust/val/image/50/oiou", "robust/val/words/miou"} <= shown.data.metrics.keys()
    assert mlflow_store.sync(runs).unchanged == 2
    ask(fresh[:1], [Condition("snow", 1)])
    assert mlflow_store.sync(runs).updated == 1


def test_packed_records_under_conditions_may_be_spread(fresh, tmp_path):
    from benchmark.runs.archive import pack, packed_files, unpack

    ask(fresh)
    runs = fresh[0].path.parent
    plain = [
        sum(p.stat().st_size + 1024 for p in packed_files(run) if "robustness" not in p.parts)
        for run in fresh
    ]
    archives = pack(runs, tmp_path / "out", max(plain) + 1)
    holds = []
    for path in archives:
        with tarfile.open(path) as archive:
            holds.append({name.partition("/")[0] for name in archive.getnames()})
    assert any(one & other for one, other in itertools.combinations(holds, 2)), "one is spread"
    assert unpack(archives, tmp_path / "there") == 2
    for run in fresh:
        there = RunDir(tmp_path / "there" / run.key)
        assert all(
            read_results(there, "val", its).equals(read_results(run, "val", its))
            for its in CONDITIONS
        )


def test_a_killed_process_is_one_sentence(fresh, monkeypatch):
    import os
    import signal

    from benchmark.robustness.images import CorruptedImages

    monkeypatch.setattr(
        CorruptedImages, "altered", lambda *given: os.kill(os.getpid(), signal.SIGKILL)
    )
    with pytest.raises(UserError, match="give fewer --workers"):
        ask(fresh[:1], workers=1)


def test_presets_name_conditions():
    quick = read_robustness_preset("quick")
    assert len(quick.conditions()) == 4 * 2 + 4 + 1
    assert len(read_robustness_preset("all").conditions()) == 19 * 5 + 4 * 9 + 1
    for condition in quick.conditions():
        assert parse_condition(str(condition)) == condition
    assert (
        len(narrow_robustness(quick, ["testA"], ["maskris"], [1, 5], False, False).conditions())
        == 17 * 2
    )
    assert len(narrow_robustness(quick, None, ["all"], None, False, False).conditions()) == 19 * 5
    with pytest.raises(UserError, match="did you mean quick"):
        read_robustness_preset("quik")
    for wrong in ("fog-9", "referent-130", "fogg-1", "word"):
        with pytest.raises(UserError):
            parse_condition(wrong)


# --- the commands -----------------------------------------------------------------------------------------------------


def command(*arguments):
    from tests.cli.test_cli import run

    return run(*arguments)


def test_the_command_asks_reports_and_says_what_it_wrote(fresh, tmp_path, capsys):
    runs, out = fresh[0].path.parent, tmp_path / "out"
    options = [
        "--runs",
        runs,
        "--out",
        out,
        "--corruptions",
        "fog,shot_noise",
        "--severities",
        "1,4",
        "--no-sync",
    ]
    assert command("robustness", fresh[0].key, "--no-occlusion", "--no-words", *options) == 0
    text = capsys.readouterr().out
    assert "mPC*" in text
    log = (runs / "robustness" / "refcoco-unc" / "log.txt").read_text()
    assert "images/s of one process: decode" in log
    written = {path.name for path in (out / "runs" / "robustness").iterdir()}
    assert {"robustness.md", "robustness.csv", "severity-refcoco-val-cris-tiny.png"} <= written
    assert "strip-refcoco-val-cris-tiny.png" in written
    assert finished_conditions(fresh[0], "val") == [
        "fog-1",
        "fog-4",
        "shot_noise-1",
        "shot_noise-4",
    ]
    first = (out / "runs" / "robustness" / "robustness.md").read_bytes()
    assert command("robustness", fresh[0].key, "--no-occlusion", "--no-words", *options) == 0
    assert "done     refcoco-unc" in capsys.readouterr().out
    log = (runs / "robustness" / "refcoco-unc" / "log.txt").read_text()
    assert "every condition was evaluated before; no network ran" in log
    assert (out / "runs" / "robustness" / "robustness.md").read_bytes() == first


def test_language_subsets_need_no_network(fresh, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run_module, "load_all", lambda *_: pytest.fail("a network was loaded"))
    options = [
        "--corruptions",
        "none",
        "--no-occlusion",
        "--no-words",
        "--no-sync",
        "--runs",
        fresh[0].path.parent,
    ]
    folder = tmp_path / "out" / "runs" / "robustness"
    folder.mkdir(parents=True)
    (folder / "strip-of-another-run.png").write_bytes(b"")
    assert command("robustness", fresh[0].key, *options, "--out", tmp_path / "out") == 0
    assert "colour" in (folder / "robustness.md").read_text()
    assert not (folder / "strip-of-another-run.png").exists()


def test_a_run_that_is_trained_again_is_asked_again(fresh):
    from benchmark.training.trainer import Trainer

    run = fresh[0]
    ask([run], CONDITIONS[:1])
    for left in ("status.json", "state/latest.pt", "best.safetensors"):
        (run.path / left).unlink()
    spec = run.spec()
    Trainer(spec, run, opened(run), Execution.of(device="cpu")).train()
    assert finished_conditions(run, "val") == []


def test_mlflow_shows_covered_sentences_alone(fresh):
    from benchmark.robustness.covered_words import read_covered

    ask(fresh[:1], [CoveredWords()])
    covered = read_covered(read_results(fresh[0], "val", "words"))
    covered = covered[covered["position"] >= 0]
    shown = fresh[0].read_json("robustness/val/metrics.json")["words"]["oiou"]
    assert shown == pytest.approx(covered["intersection"].sum() / covered["union"].sum())


def test_splits_and_conditions_that_cannot_be_asked_are_named_at_once(fresh, capsys):
    with pytest.raises(UserError, match="split of run .* 'train' is not known"):
        evaluate_conditions(fresh, ["val", "train"], CONDITIONS[:1], opened, QUIET, device="cpu")
    assert finished_conditions(fresh[0], "val") == []


def test_a_preset_asks_the_finished_runs_of_its_matrix(fresh, boxes, tmp_path, capsys):
    import yaml

    matrix = {
        "description": "boxes",
        "methods": ["cris", "lavt"],
        "strategies": ["baseline", "maskris"],
        "datasets": ["refcoco"],
        "variants": ["tiny"],
        "seeds": [0],
        "data": str(boxes),
        "recipes": {
            name: {"epochs": 2, "batch_size": 4, "micro_batch": 4} for name in ("cris", "lavt")
        },
        "selection": {"every": 1},
        "strategy": {"patch_size": 8},
    }
    (tmp_path / "boxes.yaml").write_text(yaml.safe_dump(matrix))
    preset = {
        "description": "two conditions",
        "matrix": str(tmp_path / "boxes.yaml"),
        "splits": ["val"],
        "corruptions": ["contrast"],
        "severities": [5],
        "occlusion": {"targets": ["referent"], "percents": [50]},
    }
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(preset))
    runs = fresh[0].path.parent
    whole = read_preset(str(tmp_path / "boxes.yaml"))
    write_plan(runs, resolve_preset("boxes", whole, Places(boxes, runs=runs)).group(whole))
    assert (
        command(
            "robustness",
            "--preset",
            tmp_path / "two.yaml",
            "--runs",
            runs,
            "--out",
            tmp_path / "out",
        )
        == 0
    )
    assert "2 of the 4 runs of the matrix are not finished" in capsys.readouterr().out
    assert all(finished_conditions(run, "val") == ["contrast-5", "referent-50"] for run in fresh)
    assert (tmp_path / "out" / "two" / "robustness" / "occlusion-refcoco-val.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "quik"], "did you mean quick"),
        (["RUN", "--corruptions", "fogg"], "did you mean fog"),
        (["RUN", "--severities", "0"], "severity '0'"),
        (["RUN", "--severities", "x"], "takes whole numbers"),
        (["RUN", "--splits", "vall"], "did you mean val"),
        (["RUN", "--reference", "OTHER"], "is not among the runs that are evaluated"),
        (["no-such-run"], "is not known"),
    ],
)
def test_a_user_error_is_one_sentence(fresh, tmp_path, capsys, options, message):
    named = {"RUN": fresh[0].key, "OTHER": fresh[1].key}
    arguments = [named.get(option, option) for option in options]
    assert (
        command(
            "robustness", *arguments, "--runs", fresh[0].path.parent, "--out", tmp_path, "--no-sync"
        )
        == 1
    )
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
