"""The costs of a run: the one reader of them, and what it says of a damaged file."""

import json

import pytest

from benchmark.base.errors import UserError
from benchmark.runs.costs import Costs, Device, read_costs, write_costs
from benchmark.runs.rundir import RunDir

WHOLE = Costs(
    parameters=12,
    trained_parameters=10,
    gflops=0.5,
    training_images_per_second=40.0,
    evaluation_expressions_per_second=80.0,
    peak_bytes=2**30,
    training_seconds=5400.0,
    evaluation_seconds=1800.0,
    auxiliary_seconds=60.0,
    device=Device(type="cuda", name="NVIDIA X", processes=2, threads=4),
)


def test_what_was_written_is_read(tmp_path):
    run = RunDir(tmp_path / "run")
    assert read_costs(run) is None
    write_costs(run, WHOLE)
    assert read_costs(run) == WHOLE
    assert WHOLE.hours == 2, "an auxiliary that runs share is not counted"
    assert [path.name for path in run.path.iterdir()] == ["costs.json"]


def test_a_run_of_an_earlier_version_has_its_times_alone(tmp_path):
    run = RunDir(tmp_path / "run")
    times = {"training_seconds": 3000.0, "evaluation_seconds": 600.0, "auxiliary_seconds": 0.0}
    others = {"seconds_per_step": 0.1, "images_per_second": 99.0, "peak_gpu_bytes": None}
    run.write_json("timing.json", times | others)
    costs = read_costs(run)
    assert costs == Costs(**times) and costs.hours == 1
    assert costs.training_images_per_second is None and costs.gflops is None


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"training_seconds": "long"}, "training_seconds"),
        ({"training_seconds": -3}, "training_seconds"),
        ({"gflops": float("inf")}, "gflops"),
        ({"device": {"type": "cpu"}}, "device.name"),
    ],
)
def test_a_damaged_file_is_named_in_one_sentence(tmp_path, content, field):
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="count as not measured") as caught:
        read_costs(RunDir(tmp_path))
    message = str(caught.value)
    assert str(path) in message and f"({field}:" in message and "\n" not in message


def test_a_torn_file_is_named(tmp_path):
    (tmp_path / "costs.json").write_text('{"gflops": ')
    with pytest.raises(UserError, match="costs.json is damaged"):
        read_costs(RunDir(tmp_path))


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_a_file_that_holds_no_costs_is_named(tmp_path, content):
    (tmp_path / "costs.json").write_text(content)
    with pytest.raises(UserError, match=r"costs.json is damaged: .* count as not measured\.$"):
        read_costs(RunDir(tmp_path))
