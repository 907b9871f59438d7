"""A device that cannot be used is refused by every command that takes one."""

import pytest
import yaml

from benchmark.runs.rundir import RunDir
from tests.cli.commands import keys, run


def content_of(folder):
    """Return path -> content of each file under a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


ON_A_DEVICE = [
    ["evaluate", "RUN", "--split", "val"],
    ["evaluate", "RUN", "--split", "val", "--launcher", "local"],
    ["robustness", "RUN", "--splits", "val", "--conditions", "fog-1", "--here"],
    ["robustness", "RUN", "--splits", "val", "--conditions", "fog-1", "--no-sync"],
]
# They need no network where masks are stored or the run is done, and still take no wrong name.
PERHAPS_ON_A_DEVICE = [["predict", "RUN", "--split", "val"], ["resume", "RUN"]]


@pytest.mark.parametrize("device", ["cdua", "tpu", ""])
@pytest.mark.parametrize("command", ON_A_DEVICE + PERHAPS_ON_A_DEVICE, ids=" ".join)
def test_an_unknown_device_is_refused_before_any_work(world, capsys, command, device):
    before = content_of(world)
    command = [keys(world)[0] if word == "RUN" else word for word in command]
    assert run(*command, "--runs", world / "runs", "--device", device) == 2
    said = capsys.readouterr()
    assert f"error: device '{device}' is not known:" in said.err
    assert "valid are auto, cpu, cuda." in " ".join(said.err.split())
    assert said.out == "" and said.err.count("error:") == 1 and content_of(world) == before


@pytest.mark.parametrize("command", ON_A_DEVICE, ids=" ".join)
def test_cuda_without_a_gpu_is_refused_before_any_work(world, capsys, monkeypatch, command):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    before = content_of(world)
    command = [keys(world)[0] if word == "RUN" else word for word in command]
    assert run(*command, "--runs", world / "runs", "--device", "cuda") == 2
    said = capsys.readouterr().err
    assert said.count("error:") == 1 and "--device cpu" in " ".join(said.split())
    assert content_of(world) == before


@pytest.mark.parametrize("command", [["examples", "boxes"], ["study", "run", "components"]])
def test_commands_that_have_no_device_take_none(world, tmp_path, capsys, command):
    assert run(*command, "--runs", tmp_path / "runs", "--device", "cuda") == 2
    assert "No such option" in capsys.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", [["matrix"], ["study", "run", "components"]])
@pytest.mark.parametrize(
    ("device", "advice"),
    [("cdua", "did you mean cuda"), ("tpu", "did you mean cpu"), ("cuda", "`device: cpu`")],
)
def test_the_device_of_a_preset_is_refused(
    world, tmp_path, capsys, monkeypatch, command, device, advice
):
    """With `cuda` the runs are planned, and a later command makes them where there is a GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    preset = yaml.safe_load((world / "boxes.yaml").read_text())
    preset["execution"] = {"device": device}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(preset))
    options = ["--preset", tmp_path / "own.yaml", "--runs", tmp_path / "runs", "--no-sync"]
    assert run(*command, *options) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("error:") == 1 and advice in said
    states = {RunDir(path.parent).status().state for path in tmp_path.glob("runs/*/spec.yaml")}
    assert states == ({"planned"} if device == "cuda" else set())
