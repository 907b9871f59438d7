"""Several folders of runs are read as one, and nothing of them changes."""

import pytest

from benchmark.base.errors import UserError
from benchmark.runs.groups import Cell, Group, read_group, write_plan
from benchmark.runs.joined import joined
from benchmark.runs.rundir import RunDir
from tests.reports.fakes import make_spec


def folder_of(place, specs, states):
    write_plan(place, Group("matrix", "preset", cells=[Cell.of(spec) for spec in specs]))
    for spec, state in zip(specs, states, strict=True):
        RunDir(place / spec.key).create(spec)
        RunDir(place / spec.key).write_status(state)
    return place


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_plan_and_the_runs_of_two_folders_lie_together(tmp_path):
    specs = [make_spec("baseline", seed) for seed in range(3)]
    here = folder_of(tmp_path / "a", specs[:2], ["done", "planned"])
    there = folder_of(tmp_path / "b", specs[1:], ["done", "failed"])
    before = files_of(tmp_path)
    with joined([here, there]) as whole:
        assert read_group(whole, "matrix").keys == [spec.key for spec in specs]
        states = [RunDir(whole / spec.key).status().state for spec in specs]
        # The second run is not finished in the first folder, and finished in the second.
        assert states == ["done", "done", "failed"]
    assert not whole.exists() and files_of(tmp_path) == before


def test_of_two_finished_copies_the_one_with_more_results_is_read(tmp_path):
    """One machine trained the run, and another one evaluated it under conditions."""
    spec = make_spec("baseline", 0)
    folders = [folder_of(tmp_path / name, [spec], ["done"]) for name in ("a", "b", "c")]
    results = folders[1] / spec.key / "robustness" / "val" / "fog-1.parquet"
    results.parent.mkdir(parents=True)
    results.write_bytes(b"")
    with joined(folders) as whole:
        assert (whole / spec.key / "robustness" / "val" / "fog-1.parquet").exists()


def test_one_folder_is_given_as_it_is_and_a_missing_one_is_named(tmp_path):
    with joined([tmp_path]) as whole:
        assert whole == tmp_path
    with (
        pytest.raises(UserError, match="there is no folder of runs .*nowhere"),
        joined([tmp_path, tmp_path / "nowhere"]),
    ):
        pass
