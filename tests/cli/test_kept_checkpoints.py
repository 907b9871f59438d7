"""A checkpoint file that is evaluated under a name is a run, which robustness takes, too."""

import pandas as pd
import pytest

from benchmark.evaluation.published_scores import counts_path
from benchmark.robustness.results import read_results
from benchmark.runs import integrity
from benchmark.runs.rundir import RunDir
from tests.cli.commands import keys, run
from tests.cli.conftest import copy_world
from tests.cli.test_score import scored


@pytest.fixture(scope="module")
def world(common, tmp_path_factory):
    """A world that these tests have for themselves, since they add rows to its plan."""
    return copy_world(common, tmp_path_factory)


@pytest.fixture
def exported(world):
    """Return a checkpoint file of the baseline, and its run."""
    key = next(its for its in keys(world) if its.startswith("cris-tiny-baseline-refcoco-s0"))
    path = world / "released.pth"
    if not path.exists():
        assert run("export", key, "--out", path, "--runs", world / "runs") == 0
    return path, RunDir(world / "runs" / key)


def evaluate(world, path, *options, name="kept"):
    command = ["evaluate", "--weights", path, "--dataset", "refcoco", "--data", world / "data"]
    return run(*command, "--runs", world / "runs", "--device", "cpu", "--name", name, *options)


def test_its_records_are_those_of_the_network(world, exported, capsys):
    path, own = exported
    row = ["--as", "cris/tiny/baseline", "--protocol", "cris", "--group", "boxes"]
    for split in ("val", "testA"):
        assert evaluate(world, path, "--split", split, *row) == 0
        assert "kept in" in capsys.readouterr().out
        its = scored(world, "kept")
        pd.testing.assert_frame_equal(its.records(split), own.records(split))
        pd.testing.assert_frame_equal(its.masks(split), own.masks(split))
        assert counts_path(its, "cris", split).exists()
    spec = its.any_spec()
    assert spec.weights_sha256 == integrity.digest(path) and list(spec.splits) == ["val", "testA"]
    assert str(spec.stands_for) == "cris/tiny/baseline"
    assert its.checked_status(["*"]).state == "done"
    # What was kept can be measured further, as a run can.
    assert run("evaluate", its.key, "--split", "val", "--runs", world / "runs", "--text-blind") == 0
    assert (its.path / "text_blind" / "val.json").exists()
    photo = next((world / "data" / "images" / "train2014").glob("*.jpg"))
    out = ["--out", world / "drawn", "--runs", world / "runs"]
    assert run("predict", its.key, photo, "the red box", *out) == 0


def test_robustness_runs_its_network(world, exported, tmp_path, capsys):
    path, own = exported
    assert evaluate(world, path, name="tested") == 0
    key = scored(world, "tested").key
    command = ["robustness", key, own.key, "--runs", world / "runs", "--out", tmp_path, "--no-sync"]
    command += ["--corruptions", "fog", "--severities", "3", "--splits", "val", "--workers", "0"]
    options = ["--no-occlusion", "--no-words", "--device", "cpu"]
    assert run(*command, *options) == 0, capsys.readouterr().err
    its = [read_results(each, "val", "fog-3") for each in (scored(world, "tested"), own)]
    pd.testing.assert_frame_equal(*its)


def test_another_file_in_its_place_is_refused(world, exported, tmp_path, capsys):
    path, _ = exported
    moved = tmp_path / "moved.pth"
    moved.write_bytes(path.read_bytes())
    assert evaluate(world, moved, name="moved") == 0
    key = scored(world, "moved").key
    for change in (lambda: moved.write_bytes(path.read_bytes() + b"0"), moved.unlink):
        change()
        capsys.readouterr()
        assert run("evaluate", key, "--runs", world / "runs") == 2
        assert "the checkpoint file of" in capsys.readouterr().err


def test_other_weights_need_another_name_or_seed(world, exported, tmp_path, capsys):
    path, _ = exported
    assert evaluate(world, path, name="twice") == 0
    other = next(its for its in keys(world) if its.startswith("cris-tiny-maskris-refcoco-s0"))
    second = tmp_path / "other.pth"
    assert run("export", other, "--out", second, "--runs", world / "runs") == 0
    assert evaluate(world, second, name="twice") == 2
    assert "'twice' stands for this row" in capsys.readouterr().err
    assert evaluate(world, second, "--seed", "1", name="twice") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["RUN", "--name", "x"], "leave them out for a run"),
        (["--weights", "x.pth", "--dataset", "refcoco", "--as", "cris/tiny/baseline"], "--name"),
        (["--weights", "PATH", "--dataset", "refcoco", "--name", "cris"], "is a method"),
        (["--weights", "PATH", "--dataset", "refcoco", "--name", "x", "--as", "c"], "write METHOD"),
        (["--weights", "PATH", "--dataset", "refcoco", "--name", "x", "--group", "c"], "'c'"),
    ],
)
def test_a_wrong_call_ends_in_one_sentence(world, exported, options, message, capsys):
    path, own = exported
    options = [{"RUN": own.key, "PATH": path}.get(option, option) for option in options]
    places = ["--runs", world / "runs", "--data", world / "data"]
    assert run("evaluate", *options, *places) == 2
    assert message in " ".join(capsys.readouterr().err.split())
