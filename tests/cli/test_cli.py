"""The commands as a user meets them: results, near misses, and one sentence per error."""

import json
import pickle
import re

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmark.evaluation import masks
from benchmark.runs.rundir import RunDir
from tests.cli.commands import keys, run
from tests.helpers import write_boxes


def test_run_says_what_came_out_and_does_not_repeat_itself(world, capsys):
    before = {path: path.stat().st_mtime_ns for path in (world / "runs").rglob("*.parquet")}
    command = [
        "run",
        "--preset",
        world / "boxes.yaml",
        "--method",
        "cris",
        "--strategy",
        "baseline",
        "--runs",
        world / "runs",
    ]
    assert run(*command) == 0
    assert "is done" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (world / "runs").rglob("*.parquet")}


def test_plan_names_states_steps_and_parameters(world, capsys):
    command = [
        "plan",
        "--preset",
        world / "boxes.yaml",
        "--runs",
        world / "runs",
        "--seeds",
        "0,1",
        "--no-measure",
    ]
    assert run(*command) == 2
    assert "plans seeds 0 and no 1" in capsys.readouterr().err
    assert run(*command, "--name", "two-seeds") == 0
    out = capsys.readouterr().out
    assert out.count("done") == 2 and out.count("planned") == 2 and "/4" in out


def test_plan_measures_a_step(world, capsys):
    assert (
        run(
            "plan",
            "--preset",
            world / "boxes.yaml",
            "--runs",
            world / "other",
            "--strategies",
            "maskris",
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "of training at 1 runs at a time" in out and " M" in out
    assert not (world / "other").exists(), "planning writes no run"


@pytest.mark.parametrize("form", ["published", "safetensors"])
def test_an_exported_run_evaluates_to_the_same_numbers(world, form, capsys):
    key = keys(world)[0]
    path = world / {"published": "out.pth", "safetensors": "out.safetensors"}[form]
    assert run("export", key, "--format", form, "--out", path, "--runs", world / "runs") == 0
    command = [
        "evaluate",
        "--method",
        "cris",
        "--variant",
        "tiny",
        "--weights",
        path,
        "--dataset",
        "refcoco",
    ]
    command += [
        "--data",
        world / "data",
        "--split",
        "testA",
        "--out",
        world / "file.parquet",
        "--protocol",
        "cris",
    ]
    assert run(*command) == 0
    out = capsys.readouterr().out
    assert "0 not used, 0 missing" in out and "as published (cris)" in out
    assert cli_records(world / "file.parquet") == cli_records(
        world / "runs" / key / "records" / "testA.parquet"
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "name either a run, or"),
        (["KEY", "--weights", "some.pth"], "name either a run, or"),
        (["--weights", "some.pth"], "say which network and data"),
        (
            ["--weights", "absent.pth", "--method", "cris", "--dataset", "refcoco"],
            "no weights file",
        ),
        (
            ["--weights", "absent.pth", "--method", "crsi", "--dataset", "refcoco"],
            "did you mean cris",
        ),
        (
            [
                "--weights",
                "absent.pth",
                "--method",
                "cris",
                "--variant",
                "papr",
                "--dataset",
                "refcoco",
            ],
            "did you mean paper",
        ),
        (["KEY", "--protocol", "lavt"], "take --protocol cris"),
    ],
)
def test_evaluate_says_what_to_name(world, options, message, capsys):
    named = [keys(world)[0] if option == "KEY" else option for option in options]
    assert run("evaluate", *named, "--runs", world / "runs") == 2
    assert message in capsys.readouterr().err


def test_an_export_says_its_own_method_and_variant(world, capsys):
    path = world / "variant.pth"
    assert run("export", keys(world)[0], "--out", path, "--runs", world / "runs") == 0
    command = ["evaluate", "--weights", path, "--dataset", "refcoco", "--data", world / "data"]
    assert run(*command) == 0
    assert "cris tiny of variant.pth on val" in capsys.readouterr().out
    assert run(*command, "--method", "cris", "--variant", "small") == 2
    assert "is of cris tiny, and not of cris small" in capsys.readouterr().err


def test_offline_planning_says_what_to_fetch(world, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (world / "pretrained").mkdir()
    monkeypatch.setenv("RISBENCH_PRETRAINED", str(world / "pretrained"))
    command = [
        "plan",
        "--preset",
        world / "boxes.yaml",
        "--name",
        "published",
        "--variants",
        "paper",
        "--runs",
        world / "runs",
    ]
    assert run(*command, "--offline") == 2
    error = " ".join(capsys.readouterr().err.split())
    assert (
        "'openai-RN101' could not be loaded" in error
        and "put it as RN101.safetensors into a folder" in error
    )


def test_evaluate_repeats_the_runs_numbers(world, capsys):
    key = keys(world)[0]
    assert (
        run(
            "evaluate",
            key,
            "--split",
            "testA",
            "--runs",
            world / "runs",
            "--out",
            world / "again.parquet",
        )
        == 0
    )
    assert "95 % interval" in capsys.readouterr().out
    again = pickle.dumps(cli_records(world / "again.parquet"))
    assert again == pickle.dumps(cli_records(world / "runs" / key / "records" / "testA.parquet"))


def test_a_run_of_another_revision_is_not_evaluated(world, capsys, monkeypatch):
    monkeypatch.setattr("methods.config.Definition.revision", lambda *its: 77)
    key = keys(world)[0]
    assert run("evaluate", key, "--split", "testA", "--runs", world / "runs") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"run {key} is of revision" in said and "this version has revision 77" in said


def test_evaluate_as_a_job_prints_the_same(world, capsys):
    key = keys(world)[0]
    command = ["evaluate", key, "--split", "val", "--runs", world / "runs", "--device", "cpu"]
    assert run(*command) == 0
    here = [line for line in capsys.readouterr().out.splitlines() if "[" in line]
    assert run(*command, "--launcher", "local") == 0
    in_a_job = [line for line in capsys.readouterr().out.splitlines() if "[" in line]
    assert here and in_a_job == here


def test_one_image_has_no_interval(world, capsys):
    assert run("evaluate", keys(world)[0], "--split", "testB", "--runs", world / "runs") == 0
    assert re.search(r"oIoU, %\s+\d+\.\d+\s+none", capsys.readouterr().out)


def test_a_job_that_fails_is_quoted(world, capsys):
    command = ["evaluate", keys(world)[0], "--split", "tesA", "--runs", world / "runs"]
    assert run(*command, "--launcher", "local") == 1
    said = capsys.readouterr().err
    assert "did you mean testA" in said and "log.txt" in said


@pytest.mark.parametrize(
    ("changes", "near"),
    [({"selection": {"metric": "oiuo"}}, "oiou"), ({"primary": {"weak": "miuo"}}, "miou")],
)
def test_a_misspelt_metric_is_named_before_anything_runs(world, tmp_path, capsys, changes, near):
    preset = yaml.safe_load((world / "boxes.yaml").read_text()) | changes
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(preset))
    assert run("matrix", "--preset", tmp_path / "own.yaml", "--runs", tmp_path / "runs") == 2
    assert f"did you mean {near}" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_only_a_judged_metric_can_be_primary(world, tmp_path, capsys):
    preset = yaml.safe_load((world / "boxes.yaml").read_text())
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(preset | {"primary": {"full": "p_50"}}))
    assert run("plan", "--preset", tmp_path / "own.yaml", "--no-measure") == 2
    assert "judged metric 'p_50'" in capsys.readouterr().err


def cli_records(path):
    import pandas as pd

    return pd.read_parquet(path).to_dict("list")


def test_predict_writes_a_mask_of_the_original_size(world, capsys):
    image = next((world / "data" / "images" / "train2014").glob("*.jpg"))
    assert (
        run(
            "predict",
            keys(world)[0],
            image,
            "the red box",
            "--runs",
            world / "runs",
            "--out",
            world / "out",
        )
        == 0
    )
    mask = np.asarray(Image.open(world / "out" / "mask.png"))
    assert mask.shape == np.asarray(Image.open(image)).shape[:2] and set(np.unique(mask)) <= {
        0,
        255,
    }
    assert Image.open(world / "out" / "overlay.png").size == Image.open(image).size


def test_predict_exports_the_masks_of_a_split(world, tmp_path, capsys):
    run_dir = RunDir(world / "runs" / keys(world)[0])
    command = ["predict", run_dir.key, "--split", "testB", "--runs", world / "runs", "--out"]
    assert run(*command, tmp_path / "stored.json") == 0
    stored = json.loads((tmp_path / "stored.json").read_text())
    assert [entry["sent_id"] for entry in stored] == list(run_dir.records("testB")["sent_id"])
    # A run of an earlier version has none, so its network makes them, and they are kept.
    before = run_dir.masks_path("testB").read_bytes()
    run_dir.masks_path("testB").unlink()
    assert run(*command, tmp_path / "made.json") == 0
    assert run_dir.masks_path("testB").read_bytes() == before
    assert (tmp_path / "made.json").read_bytes() == (tmp_path / "stored.json").read_bytes()
    # A split that the run does not report has no place in it.
    assert run(*command[:3], "train", *command[4:], tmp_path / "train.json") == 0
    assert not run_dir.masks_path("train").exists()
    for entry in json.loads((tmp_path / "train.json").read_text())[:3]:
        assert masks.decode(entry["segmentation"]).shape == tuple(entry["segmentation"]["size"])


def test_masks_that_are_not_those_of_the_records_are_not_kept(world, tmp_path, capsys):
    run_dir = RunDir(world / "runs" / keys(world)[0])
    records, kept = run_dir.records("testB"), run_dir.masks("testB")
    run_dir.masks_path("testB").unlink()
    run_dir.write_records("testB", records.assign(union=records["union"] + 1))
    command = ["predict", run_dir.key, "--split", "testB", "--runs", world / "runs"]
    assert run(*command, "--out", tmp_path / "made.json") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "6 of 6 differ from those of its records" in said
    assert not run_dir.masks_path("testB").exists() and (tmp_path / "made.json").exists()
    run_dir.write_records("testB", records)
    run_dir.write_masks("testB", kept)


def test_examples_are_cut_out_of_the_data(world, capsys):
    command = ["examples", "boxes", "--runs", world / "runs"]
    assert run(*command) == 0
    place = world / "runs" / "examples" / "boxes"
    assert "wrote" in capsys.readouterr().out
    every = json.loads((place / "examples.json").read_text())
    assert {entry["split"] for entry in every} == {"testA"}
    assert {entry["picture"] for entry in every} == {path.name for path in place.glob("*.webp")}
    assert run(*command, "--rule", "two-of-a-kind", "--split", "val", "--count", "1") == 0
    (entry,) = json.loads((place / "examples.json").read_text())
    assert (entry["rule"], entry["split"]) == ("two of a kind", "val")
    assert run(*command, "--ids", entry["sent_id"], "--split", "val") == 0
    (named,) = json.loads((place / "examples.json").read_text())
    assert named == entry | {"rule": "chosen"}


def test_status_lists_states(world, capsys):
    for plan in ([], ["boxes"]):
        assert run("status", *plan, "--runs", world / "runs") == 0
        assert capsys.readouterr().out.count("done") == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["plan", "--preset", "quik"], "preset 'quik' is not known: did you mean quick"),
        (["plan", "--preset", "missing.yaml"], "there is no preset file missing.yaml"),
        (["plan", "--methods", "lvat"], "plans methods"),
        (["predict", "x"], "name either a photograph and a sentence, or --split"),
        (["predict", "x", "a.jpg"], "name either a photograph and a sentence, or --split"),
        (["predict", "x", "a.jpg", "b", "--split", "val"], "name either a photograph and a"),
        (["examples", "--rule", "largest-gains"], "did you mean largest gain"),
        (["examples", "--rule", "occluded", "--ids", "1"], "name either rules"),
        (["examples", "--ids", "x"], "--ids takes whole numbers"),
        (
            ["plan", "--methods", "lvat", "--name", "x"],
            "method 'lvat' is not known: did you mean lavt",
        ),
        (["plan", "--strategies", "baselin", "--name", "x"], "did you mean baseline"),
        (["plan", "--seeds", "one"], "--seeds takes whole numbers"),
        (["report", "boxs", "--runs", "{world}/runs"], "did you mean boxes"),
        (["report", "boxes", "--runs", "{world}/empty"], "nothing was planned in"),
        (["report", "boxes", "--seeds", "3", "--runs", "{world}/runs"], "seeds '3' is not known"),
        (["status", "boxs", "--runs", "{world}/runs"], "did you mean boxes"),
        (
            ["plan", "--data", "{world}/data", "--datasets", "refcocog", "--name", "x"],
            "no data set 'refcocog'",
        ),
        (
            ["plan", "--data", "{world}/data", "--datasets", "refcocg", "--name", "x"],
            "did you mean refcocog",
        ),
        (
            ["plan", "--data", "{world}/data", "--datasets", "refcoco:umd", "--name", "x"],
            "'umd' is not known",
        ),
        (["status", "--runs", "{world}/empty"], "there are no runs in"),
        (
            ["run", "--method", "cris,lavt", "--data", "{world}/data", "--dataset", "refcoco"],
            "is not known",
        ),
        (["predict", "cris", "{world}/none.jpg", "a box"], "there are no runs in"),
        (
            ["predict", "cris-tiny-b", "{world}/none.jpg", "a box", "--runs", "{world}/runs"],
            "there is no image",
        ),
        (
            ["predict", "cris-tiny-b", "{world}/boxes.yaml", "a box", "--runs", "{world}/runs"],
            "is no image that can be decoded",
        ),
        (
            ["predict", "cris-tiny-b", "{world}/none.jpg", " ", "--runs", "{world}/runs"],
            "the sentence is empty",
        ),
        (
            ["evaluate", "cris-tiny-b", "--split", "tesA", "--runs", "{world}/runs"],
            "did you mean testA",
        ),
        (
            ["evaluate", "crs-tiny-b", "--runs", "{world}/runs"],
            "is not known: did you mean cris-tiny-",
        ),
        (
            ["resume", "cris-tiny-b", "--runs", "{world}/runs", "--compile", "--checkpointing"],
            "set compile or checkpointing to false",
        ),
        (["data", "check", "{world}/nowhere"], "is not a folder"),
        (["unpack", "{world}/boxes.yaml", "--runs", "{world}/unpacked"], "is damaged"),
        (["pack", "{world}/packed", "--runs", "{world}/empty"], "there are no runs"),
    ],
)
def test_a_user_error_is_one_sentence_and_exit_code_2(
    world, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert run(*[argument.format(world=world) for argument in arguments]) == 2
    shown = capsys.readouterr()
    text = re.sub(r"\s+", " ", shown.out + shown.err)
    assert message in text and "Traceback" not in text


def test_a_failed_run_says_why_and_is_tried_again(world, tmp_path, capsys, monkeypatch):
    write_boxes(tmp_path / "data")
    command = [
        "run",
        "--preset",
        world / "boxes.yaml",
        "--method",
        "cris",
        "--runs",
        tmp_path / "runs",
        "--data",
        tmp_path / "data",
    ]
    from benchmark.base.errors import UserError
    from benchmark.training.stepper import Stepper

    def broken(self, *arguments):
        raise UserError("the disk is full; make room.")

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "enqueue", broken)
        assert run(*command) == 2
    assert "the disk is full" in capsys.readouterr().err
    key = next((tmp_path / "runs").glob("*/spec.yaml")).parent
    assert RunDir(key).status().state == "failed" and "disk is full" in RunDir(key).status().reason
    assert run(*command) == 0 and RunDir(key).status().state == "done"


def test_data_check_and_refshapes(tmp_path, capsys):
    assert run("data", "write", tmp_path, "--train", 3, "--val", 1, "--test", 1) == 0
    assert run("data", "check", tmp_path) == 0
    assert "refshapes" in capsys.readouterr().out


def test_pack_and_unpack_keep_what_a_report_needs(world, tmp_path, capsys):
    assert run("pack", tmp_path / "packed", "--runs", world / "runs") == 0
    archives = sorted((tmp_path / "packed").glob("*.tar.gz"))
    assert run("unpack", *archives, "--runs", tmp_path / "runs") == 0
    out = ["report", "boxes"]
    assert run(*out, "--runs", tmp_path / "runs", "--out", tmp_path / "there") == 0
    assert run(*out, "--runs", world / "runs", "--out", tmp_path / "here") == 0
    assert (tmp_path / "there/boxes/table.csv").read_bytes() == (
        tmp_path / "here/boxes/table.csv"
    ).read_bytes()


def test_the_folder_of_runs_comes_from_the_environment(world, monkeypatch, capsys):
    monkeypatch.setenv("RISBENCH_RUNS", str(world / "runs"))
    assert run("status") == 0 and "done" in capsys.readouterr().out
