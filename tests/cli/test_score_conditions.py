"""Corrupted pictures for other networks, and masks that these predict for them."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark.data.datasets import read
from benchmark.robustness import corruptions
from benchmark.robustness.results import finished_conditions, read_masks, read_results
from tests.cli.commands import run
from tests.cli.conftest import copy_world
from tests.cli.test_score import all_ones, score, scored


@pytest.fixture(scope="module")
def world(common, tmp_path_factory):
    """A world that these tests have for themselves, since they add rows to its plan."""
    return copy_world(common, tmp_path_factory)


def images(world, out, *options):
    where = ["--data", world / "data", "--splits", "val", "--severities", "1,3"]
    return run("robustness", "images", out, "--corruptions", "fog,contrast", *where, *options)


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_are_the_bits_of_the_suites_own_evaluation(world, tmp_path, workers, capsys):
    assert images(world, tmp_path, "--workers", workers) == 0
    assert "8 pictures of val are in" in capsys.readouterr().out
    data = read("refcoco", "unc", world / "data")
    (tmp_path / "lines").mkdir()
    for line in map(json.loads, (tmp_path / "val.jsonl").read_text().splitlines()):
        for name, severity in [("fog", 1), ("fog", 3), ("contrast", 1), ("contrast", 3)]:
            with Image.open(tmp_path / f"{name}-{severity}" / line["file_name"]) as file:
                assert file.format == "PNG"
                pixels = np.asarray(file)
            original = data.image(line["image_id"])
            own = corruptions.corrupt(original, name, severity, line["image_id"])
            np.testing.assert_array_equal(pixels, own)
    sentences = {json.loads(line)["sent_id"] for line in open(tmp_path / "val.jsonl")}
    refs = data.refs_of("val")
    assert sentences == {its.sent_id for ref in refs for its in ref.sentences}


def test_pictures_that_are_there_stay(world, tmp_path):
    assert images(world, tmp_path, "--workers", "0") == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    first = min(before)
    first.unlink()
    assert images(world, tmp_path, "--workers", "0") == 0
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert [path for path in before if before[path] != after[path]] == [first]


def test_masks_of_corrupted_pictures_are_a_condition_of_their_run(world, tmp_path, capsys):
    under = ["--condition", "fog/3"]
    assert score(world, all_ones(world, shift=9), *under, name="foggy") == 2
    assert "come first" in capsys.readouterr().err
    assert score(world, all_ones(world), "--group", "boxes", name="foggy") == 0
    assert score(world, all_ones(world, shift=9), *under, name="foggy") == 0
    its = scored(world, "foggy")
    assert finished_conditions(its, "val") == ["fog-3"]
    records = read_results(its, "val", "fog-3")
    assert score(world, all_ones(world, shift=9), name="plain") == 0
    pd.testing.assert_frame_equal(records, scored(world, "plain").records("val"))
    assert len(read_masks(its, "val", "fog-3")) == 2, "one expression of each image"
    assert its.checked_status(["*"]).state == "done"
    # The same masks change nothing, and others are refused.
    assert score(world, all_ones(world, shift=9), *under, name="foggy") == 0
    assert "had been scored before" in capsys.readouterr().out
    assert score(world, all_ones(world, shift=12), *under, name="foggy") == 2
    assert "delete this file" in capsys.readouterr().err


def test_they_stand_in_the_report_of_robustness(world, tmp_path, capsys):
    assert score(world, all_ones(world), "--group", "boxes", name="guest") == 0
    assert score(world, all_ones(world, shift=9), "--condition", "fog/3", name="guest") == 0
    command = ["robustness", "--preset", world / "boxes.yaml", "--runs", world / "runs"]
    command += ["--corruptions", "fog", "--severities", "3", "--splits", "val", "--no-words"]
    options = ["--no-occlusion", "--no-sync", "--workers", "0", "--out", tmp_path]
    assert run(*command, *options) == 0, capsys.readouterr().err
    (table,) = (tmp_path / "boxes").rglob("robustness.csv")
    found = pd.read_csv(table)
    assert {"cris", "guest"} <= {*found["method"]}


@pytest.mark.parametrize(
    ("condition", "message"),
    [("fgo/3", "did you mean fog"), ("fog/9", "severity '9'"), ("fog", "is no condition")],
)
def test_a_condition_that_is_none_is_named(world, condition, message, capsys):
    assert score(world, all_ones(world), name="named") == 0
    assert score(world, all_ones(world), "--condition", condition, name="named") == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_images_says_what_is_wrong(world, tmp_path, capsys):
    assert images(world, tmp_path, "--dataset", "refcco") == 2
    assert "did you mean refcoco" in capsys.readouterr().err
    assert images(world, tmp_path, "--splits", "tset") == 2
    assert "split of refcoco" in capsys.readouterr().err


def test_missing_masks_under_a_condition_are_told_in_the_report(world, tmp_path, capsys):
    whole = all_ones(world, shift=9)
    part = tmp_path / "part.jsonl"
    part.write_text("".join(whole.read_text().splitlines(keepends=True)[1:]))
    assert score(world, whole, "--group", "boxes", name="lacking") == 0
    under = ["--condition", "fog/3"]
    assert score(world, part, *under, name="lacking") == 2
    assert "1 of 12 expressions has no mask" in " ".join(capsys.readouterr().err.split())
    assert score(world, part, *under, "--allow-missing", name="lacking") == 0
    assert "1 of 12 expressions have no mask" in capsys.readouterr().out
    assert score(world, whole, *under, "--group", "boxes", name="lacking") == 2
    assert "leave them out with --condition" in " ".join(capsys.readouterr().err.split())
    places = ["--runs", world / "runs", "--out", tmp_path]
    assert run("report", "boxes", "--only", "robustness", *places) == 0
    text = (tmp_path / "boxes" / "robustness" / "robustness.md").read_text()
    key = scored(world, "lacking").key
    assert f"1 masks of {key} on val under fog-3 are missing and count as empty" in text
