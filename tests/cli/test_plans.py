"""Whole plans through the commands: two-stage work, splits of other sets, superseded runs."""

import json

import pytest
import yaml

from benchmark.base.errors import UserError
from benchmark.runs import splits
from benchmark.runs.groups import read_group
from benchmark.runs.rundir import RunDir, all_runs
from tests.cli.test_cli import run
from tests.helpers import write_boxes

SHORT = {"epochs": 1, "batch_size": 4, "micro_batch": 4}


def preset(folder, **changes):
    values = {
        "description": "boxes",
        "methods": ["lavt"],
        "strategies": ["baseline"],
        "datasets": ["refcoco"],
        "variants": ["tiny"],
        "seeds": [0],
        "data": str(folder / "data"),
        "strategy": {"patch_size": 8},
        "recipes": {name: SHORT for name in ("lavt", "tris", "tris_step2")},
        "execution": {"device": "cpu"},
    }
    path = folder / "boxes.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def matrix(folder, path, *options):
    return run(
        "matrix",
        "--preset",
        path,
        "--runs",
        folder / "runs",
        "--out",
        folder / "out",
        "--no-sync",
        *options,
    )


@pytest.mark.slow
def test_one_command_goes_from_nothing_to_a_row_of_step_two(tmp_path):
    """The second step's targets are made by a run that the plan adds, and that is no row of it."""
    write_boxes(tmp_path / "data")
    path = preset(tmp_path, methods=["tris_step2"])
    assert matrix(tmp_path, path) == 0
    group = read_group(tmp_path / "runs", "boxes")
    (key,), (maker,) = group.keys, group.needed
    spec = RunDir(tmp_path / "runs" / key).spec()
    assert (
        spec.recipe.pseudo_masks == maker
        and RunDir(tmp_path / "runs" / maker).spec().method == "tris"
    )
    assert {run.status().state for run in all_runs(tmp_path / "runs")} == {"done"}
    table = (tmp_path / "out" / "boxes" / "table.csv").read_text()
    assert key in table and maker not in table
    written = (tmp_path / "runs" / maker / "pseudo.json").stat().st_mtime_ns
    assert matrix(tmp_path, path) == 0, "nothing is made twice"
    assert (tmp_path / "runs" / maker / "pseudo.json").stat().st_mtime_ns == written


def test_a_run_is_reported_on_splits_of_other_sets(tmp_path, capsys):
    """What `combined` is published on: the key holds it where it is asked for, and nowhere else."""
    write_boxes(tmp_path / "data")
    write_boxes(tmp_path / "data", images=12, name="refcoco+")
    assert matrix(tmp_path, preset(tmp_path)) == 0
    (plain,) = read_group(tmp_path / "runs", "boxes").keys
    assert matrix(tmp_path, preset(tmp_path, report=["refcoco+:testA"])) == 0
    (key,) = read_group(tmp_path / "runs", "boxes").keys
    assert (
        key != plain
        and "report_sha256" not in (tmp_path / "runs" / plain / "spec.yaml").read_text()
    )
    directory = RunDir(tmp_path / "runs" / key)
    assert directory.spec().selection.report[-1] == "refcoco+.unc.testA"
    result = directory.read_json("result.json")
    assert {"val", "testA", "testB", "refcoco+.unc.testA"} <= set(result)
    # The other run of the plan is superseded now, and is named as such.
    assert read_group(tmp_path / "runs", "boxes").superseded == [plain]
    assert plain in (tmp_path / "out" / "boxes" / "table.md").read_text()
    capsys.readouterr()
    command = [
        "evaluate",
        key,
        "--dataset",
        "refcoco+",
        "--split",
        "testA",
        "--runs",
        tmp_path / "runs",
    ]
    assert run(*command) == 0
    assert f"{100 * result['refcoco+.unc.testA']['oiou']:.2f}" in capsys.readouterr().out

    from benchmark.tracking.mlflow_store import TRACKER

    assert TRACKER.sync(tmp_path / "runs").failed == {}, "MLflow's names may not hold a plus"
    assert run("clean", "--yes", "--runs", tmp_path / "runs") == 0
    assert [run.key for run in all_runs(tmp_path / "runs")] == [key]


@pytest.mark.parametrize("entry", ["testA", "refcoco:", ":testA", "a:b:c:d"])
def test_a_split_of_another_set_is_named_with_its_set(entry):
    with pytest.raises(UserError, match="DATASET:SPLIT|is not known"):
        splits.parse(entry)


def test_status_shows_cells_that_were_never_begun(tmp_path, capsys):
    write_boxes(tmp_path / "data")
    path = preset(tmp_path, seeds=[0, 1])
    assert matrix(tmp_path, path, "--seeds", "0") == 0
    capsys.readouterr()
    assert run("status", "boxes", "--runs", tmp_path / "runs") == 0
    out = capsys.readouterr().out
    assert "done" in out and "seed 1" in out and "not started yet" in out
    content = json.loads((tmp_path / "runs" / "groups" / "boxes.json").read_text())
    assert content["axes"]["seeds"] == [0, 1] and "seeds" in content["text"]


def test_plan_says_how_many_seeds_a_difference_takes(world, capsys):
    command = ["plan", "--preset", world / "boxes.yaml", "--runs", world / "runs", "--no-measure"]
    assert run(*command, "--detect", "5", "--seeds", "0,1,2", "--name", "three") == 0
    out = capsys.readouterr().out
    assert "seeds for 5" in out and "assumed" in out and "80 % power" in out
