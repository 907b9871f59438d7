"""A disk that fills, and one that may only be read, under every command.

Both are real mounts, for which the tests must be allowed to mount. Elsewhere they are skipped.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmark.runs.rundir import RunDir
from tests.cli.commands import keys, run
from tests.faults.test_kills import COMMANDS, copy, of_runs, start
from tests.studies.searches import written

SENTENCE = re.compile(r"^(error|failed|not started)\b.*", re.MULTILINE)


def mount(*words: object) -> None:
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that makes a disk of a size, or gives the one that is there a new size."""
    place = tmp_path / "disk"
    place.mkdir()

    def sized(size: str) -> Path:
        again = ["-o", f"remount,size={size}"] if place.is_mount() else ["-o", f"size={size}"]
        mount("-t", "tmpfs", *again, "tmpfs", place)
        return place

    yield sized
    if place.is_mount():
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.faults
@pytest.mark.campaign
@pytest.mark.parametrize("size", ["300k", "1m", "20m", "30m"])
def test_a_disk_that_fills_stops_a_matrix_and_loses_nothing(world, tmp_path, small_disk, size):
    """With 20 and 30 MB, some things fit and others do not."""
    disk = small_disk(size)
    copied = copy(world, tmp_path / "copy", bare=True)
    (disk / "runs").mkdir()
    (copied / "runs").symlink_to(disk / "runs")
    command = COMMANDS["matrix"]
    said = tmp_path / "said.txt"
    with said.open("w") as file:
        code = start(command, copied, tmp_path / "out", output=file).wait()
    logs = "".join(path.read_text(errors="replace") for path in disk.glob("runs/*/log.txt"))
    assert "Traceback" not in said.read_text() + logs
    if code:
        assert code == 1 and SENTENCE.search(said.read_text())
    small_disk("500m")
    assert start(command, copied, tmp_path / "out").wait() == 0
    assert of_runs(disk / "runs") == of_runs(world / "runs")


READING = (
    "status",
    "status boxes",
    "report boxes --out {out}",
    "plan --preset {preset} --no-measure",
    "evaluate {key} --split testA --device cpu",
    "predict {key} --split testA --out {out}/masks.json",
    "claims",
    "pack {out}/packed",
    "export {key} --out {out}/exported.safetensors",
)
WRITING = (
    "report boxes --out {place}/out",
    "robustness {key} --corruptions fog --severities 2 --splits testA --out {out}",
    "examples boxes",
    "predict {key} --split testA --out {place}/masks.json",
    "pack {place}/packed",
    "export {key} --out {place}/exported.safetensors",
    "sync",
    "clean --yes",
    "matrix --preset {preset} --seeds 3 --name other --no-sync",
    "matrix --preset {preset} --seeds 4 --name other",
    "unpack {out}/packed/runs-00.tar.gz",
    "resume {key}",
    "run --preset {preset} --seed 5",
    "study run lambda --preset {preset}",
)


@pytest.mark.faults
@pytest.mark.campaign
def test_a_disk_that_may_only_be_read(world, tmp_path, capsys):
    own = copy(world, tmp_path / "own", bare=False)
    place, out = tmp_path / "place", tmp_path / "out"
    place.mkdir()
    before = of_runs(own / "runs")
    # The preset names the place itself, so that the data lie on the disk, too.
    preset = own / "boxes.yaml"
    preset.write_text(preset.read_text().replace(str(own), str(place)))
    mount("--bind", own, place)
    try:
        mount("-o", "remount,ro,bind", place)
        key = keys(place)[0]
        for command in READING + WRITING:
            words = command.format(key=key, out=out, place=place, preset=place / "boxes.yaml")
            code = run(*words.split(), "--runs", place / "runs")
            said = capsys.readouterr()
            assert code in ((0,) if command in READING else (1, 2)), (command, said)
            errors = [line for line in said.err.splitlines() if line.startswith("error:")]
            assert len(errors) == bool(code), (command, said)
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
    assert of_runs(own / "runs") == before
    assert RunDir(own / "runs" / key).checked_status().state == "done"
    shutil.rmtree(out, ignore_errors=True)


FILLING = (
    "report boxes --out {place}/out",
    "robustness {key} --corruptions fog --severities 2 --splits testA --out {place}/out",
    "examples boxes",
    "evaluate {key} --split testA --device cpu --out {place}/records.parquet",
    "predict {key} --split testA --out {place}/masks.json",
    "pack {place}/packed",
    "export {key} --out {place}/exported.safetensors",
    "sync",
    "matrix --preset {preset} --seeds 4 --name other --no-sync",
    "run --preset {preset} --seed 5",
    "unpack {out}/packed/runs-00.tar.gz --runs {place}/unpacked",
    "study run {study} --preset {preset} --no-sync --out {place}/out",
)


@pytest.mark.faults
@pytest.mark.campaign
@pytest.mark.parametrize("kilobytes", [0, 40, 400])
@pytest.mark.parametrize("command", FILLING)
def test_a_disk_that_is_full_under_every_command(
    world, tmp_path, small_disk, capsys, command, kilobytes
):
    """What was there is kept, and the same command succeeds once there is room."""
    out, disk = tmp_path / "out", small_disk("200m")
    place = shutil.copytree(world, disk / "world")
    preset, runs = place / "boxes.yaml", place / "runs"
    first, *_ = keys(place)
    if command.startswith("unpack"):
        assert run("pack", out / "packed", "--runs", runs) == 0
    rows = [{"label": name, "strategy": name} for name in ("baseline", "maskris")]
    study = written(
        tmp_path, kind="grid", method="cris", place="Table 3", reference="baseline", rows=rows
    )
    before = of_runs(runs)
    places = {"key": first, "out": out, "place": place, "preset": preset, "study": study}
    words = command.format(**places).split()
    words += [] if "--runs" in words else ["--runs", runs]
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free - 1024 * kilobytes))
    capsys.readouterr()
    code = run(*words)
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith(("error:", "failed"))]
    assert code in (0, 1) and len(errors) >= code, said
    assert "Traceback" not in said.err + said.out
    assert before.items() <= of_runs(runs).items()
    # Whoever could not end a file has deleted what it had of it.
    assert not [path for path in place.rglob(".*.[0-9]*") if path.is_file()]
    ballast.unlink()
    assert run(*words) == 0, capsys.readouterr()
    assert before.items() <= of_runs(runs).items()
