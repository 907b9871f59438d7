"""Commands whose launcher is killed with -9 at random moments, against twins that ran in peace.

The same command is started again at once, while jobs of the killed launcher may still be at work.
"""

import dataclasses
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import psutil
import pytest

from tests.cli.commands import keys, run
from tests.helpers import PROJECT

KILLS = 5
ORPHAN_SECONDS = 12
ANYWHERE = {"log.txt", "status.json", "job.json", "environment.json", "costs.json", "files.json"}


def contents(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """Return file -> bytes of everything that must not depend on kills."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.glob(pattern))
        if path.is_file() and path.name not in ANYWHERE and not path.name.startswith(".")
    }


def of_runs(folder: Path) -> dict[str, bytes]:
    """Return what runs have left: weights, metrics, numbers, records, masks and pictures."""
    return contents(folder, "cris-*/**/*")


def packed(folder: Path) -> dict[str, bytes]:
    """Return what archives hold."""
    files = {}
    for path in sorted(folder.glob("*.tar.gz")):
        with tarfile.open(path) as archive:
            members = [member for member in archive if member.isfile()]
            files |= {its.name: archive.extractfile(its).read() for its in members}
    return files


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of the campaign.

    Attributes:
        words: its arguments, with {world} for the copy of the world and {out} for a new folder.
        compared: returns what of the folder `where` must be as in the twin.
        where: the folder that it writes, as `words` name it.
        bare: whether it starts without the finished runs of the world.
    """

    words: str
    compared: Callable[[Path], dict[str, bytes]]
    where: str
    bare: bool = False


COMMANDS = {
    "matrix": Command(
        "matrix --preset {world}/boxes.yaml --runs {world}/runs --out {out} --no-sync --jobs 2",
        of_runs,
        "{world}/runs",
        bare=True,
    ),
    "robustness": Command(
        "robustness --preset {world}/boxes.yaml --runs {world}/runs --out {out} --jobs 2"
        " --corruptions fog,gaussian_noise --severities 1,3 --splits val,testA",
        of_runs,
        "{world}/runs",
    ),
    "pack": Command("pack {out} --runs {world}/runs", packed, "{out}"),
    "unpack": Command("unpack {world}/packed/runs-00.tar.gz --runs {out}", contents, "{out}"),
}


def start(
    command: Command, world: Path, out: Path, output: int | TextIO = subprocess.DEVNULL
) -> subprocess.Popen:
    """Start a command, whose output goes to `output`."""
    words = command.words.format(world=world, out=out).split()
    return subprocess.Popen(
        [sys.executable, "-m", "benchmark.cli", *words],
        cwd=PROJECT,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def copy(world: Path, to: Path, bare: bool) -> Path:
    """Return a copy of the world, whose preset names the data of the copy."""
    shutil.copytree(world, to)
    preset = to / "boxes.yaml"
    preset.write_text(preset.read_text().replace(str(world), str(to)))
    if bare:
        shutil.rmtree(to / "runs")
    else:
        run("pack", to / "packed", "--runs", to / "runs")
    return to


@pytest.mark.faults
@pytest.mark.campaign
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_commands_leave_what_their_twins_leave(world, tmp_path, name):
    command = COMMANDS[name]
    twin = copy(world, tmp_path / "twin", command.bare)
    killed = copy(world, tmp_path / "killed", command.bare)
    began = time.monotonic()
    assert start(command, twin, tmp_path / "peace").wait() == 0
    whole = time.monotonic() - began
    moments, orphans, kills = random.Random(name), [], 0
    for _ in range(KILLS):
        process = start(command, killed, tmp_path / "war")
        try:
            process.wait(moments.uniform(0, whole))
        except subprocess.TimeoutExpired:
            orphans += psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills, "every command was over before its moment came"
    assert start(command, killed, tmp_path / "war").wait() == 0
    _, alive = psutil.wait_procs(orphans, timeout=ORPHAN_SECONDS)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
    places = [
        Path(command.where.format(world=world, out=out))
        for world, out in ((twin, tmp_path / "peace"), (killed, tmp_path / "war"))
    ]
    expected, found = map(command.compared, places)
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []
    assert expected


@pytest.mark.faults
@pytest.mark.campaign
def test_two_matrices_on_one_folder(world, tmp_path):
    """Both end with success, and every run was made once."""
    command = COMMANDS["matrix"]
    twin = copy(world, tmp_path / "both", bare=True)
    both = [start(command, twin, tmp_path / f"out{number}") for number in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(keys(twin)) == 2
    tables = [(tmp_path / f"out{number}" / "boxes" / "table.csv").read_bytes() for number in (0, 1)]
    assert tables[0] == tables[1]
    assert of_runs(twin / "runs") == of_runs(world / "runs")
