"""Every file of a finished run, damaged in every way, through every command that reads it.

No command may end in a traceback, the damaged run counts nowhere and is named, the other run is
reported, and whatever makes runs makes the damaged one again.
"""

import io
import shutil
import time
from pathlib import Path

import pytest

from benchmark.runs.rundir import RunDir
from tests.cli.commands import keys, run
from tests.faults.damage import DAMAGES, restore

FILES = (
    "spec.yaml",
    "status.json",
    "result.json",
    "metrics.jsonl",
    "environment.json",
    "costs.json",
    "files.json",
    "best.safetensors",
    "records/testA.parquet",
    "masks/testA.parquet",
    "groups/boxes.json",
)
COMMANDS = (
    "status",
    "status boxes",
    "report boxes --out {out}",
    "plan --preset {preset} --no-measure",
    "evaluate {key} --split testA --device cpu",
    "predict {key} --split testA --out {out}/masks.json",
    "robustness {key} --corruptions fog --severities 1 --splits testA --out {out}",
    "examples boxes",
    "claims",
    "pack {out}/packed",
    "export {key} --out {out}/exported.safetensors",
    "sync",
    "clean",
)
SECONDS = 30  # that a command may take


@pytest.fixture(autouse=True)
def unanswered(monkeypatch):
    """Give no answer to whoever asks, as `clean` does."""
    monkeypatch.setattr("sys.stdin", io.StringIO())


def through_all(world: Path, key: str, commands: tuple[str, ...], out: Path) -> list[str]:
    """Run commands on a folder of runs, and return those that took too long."""
    slow = []
    for command in commands:
        words = command.format(key=key, out=out, preset=world / "boxes.yaml").split()
        started = time.monotonic()
        code = run(*words, *(["--runs", world / "runs"] if "--runs" not in words else []))
        assert code in (0, 1, 2), command
        if time.monotonic() - started > SECONDS:
            slow.append(command)
    return slow


def campaign(world: Path, name: str, damage: str, commands: tuple[str, ...], out: Path) -> None:
    """Damage a file of the first run, and check that commands bear it and that it is made again."""
    key = keys(world)[0]
    damaged = world / "runs" / (name if name.startswith("groups/") else f"{key}/{name}")
    folder = world / "runs" / key
    # Results under conditions are those of weights that may be made again.
    kept = [*folder.glob("records/*"), *folder.glob("masks/*")]
    before = {path: path.read_bytes() for path in kept}
    content = damaged.read_bytes()
    DAMAGES[damage](damaged)
    try:
        assert not through_all(world, key, commands, out)
        again = ["matrix", "--preset", world / "boxes.yaml", "--no-sync", "--jobs", "1"]
        code = run(*again, "--runs", world / "runs", "--out", out / "again")
        assert code in (0, 1)
        if code == 0:
            assert RunDir(world / "runs" / key).checked_status().state == "done"
            assert {path: path.read_bytes() for path in before} == before
    finally:
        restore(damaged, content)


@pytest.mark.parametrize("damage", ["flipped", "missing"])
@pytest.mark.parametrize("name", ["result.json", "records/testA.parquet"])
def test_some_damages(world, tmp_path, name, damage):
    campaign(world, name, damage, COMMANDS[:3], tmp_path)


@pytest.mark.faults
@pytest.mark.campaign
@pytest.mark.parametrize("name", FILES)
def test_every_damage(world, tmp_path, name):
    for damage in DAMAGES:
        campaign(world, name, damage, COMMANDS, tmp_path / damage)
        shutil.rmtree(tmp_path / damage, ignore_errors=True)
