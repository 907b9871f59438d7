"""Files of studies and trackers, damaged in every way, through every command that reads them.

No command may end in a traceback. What is damaged is named, and the other studies go on.
"""

import time

import pytest

from benchmark.runs.execution import Places
from studies import study
from studies.trials import default_storage, open_study
from tests.cli.commands import run
from tests.faults.damage import DAMAGES, restore
from tests.studies.searches import SEARCH, written

FILES = ("studies/first/study.yaml", "studies/second/study.yaml", "optuna.db", "mlflow.db")
COMMANDS = (
    "study list",
    "study show first",
    "study show second --format csv",
    "study report first --out {out}",
    "study report second --out {out}",
    "report boxes --out {out}",
    "status",
    "status first",
    "sync",
)
# Commands that do not need the damaged file, and do what they always do.
OTHERS = {
    "studies/first/study.yaml": ("study list", "study show second --format csv", "sync", "status"),
    "studies/second/study.yaml": ("study list", "study show first", "sync", "status"),
    "optuna.db": ("study list", "study show first", "sync", "status"),
    "mlflow.db": ("study list", "study show first", "study show second --format csv", "status"),
}
SECONDS = 30  # that a command may take


@pytest.fixture
def stored(world):
    """Return a folder of runs with a grid and a search that were started, and a synced store."""
    runs, preset = world / "runs", str(world / "boxes.yaml")
    rows = [{"label": name, "strategy": name} for name in ("baseline", "maskris")]
    fields = {"method": "cris", "place": "Table 3", "reference": "baseline", "rows": rows}
    grid = written(world, kind="grid", **fields)
    places = Places(None, runs=runs)
    study.save(runs, study.start(grid, preset, {}, places, called="first"))
    search = written(world, **(SEARCH | {"method": "cris"}))
    started = study.start(search, preset, {}, places, called="second")
    study.save(runs, started)
    open_study(started, default_storage(runs))
    assert run("sync", "--runs", runs) == 0
    return runs


@pytest.mark.faults
@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_damage(stored, tmp_path, capsys, name):
    path = stored / name
    content = path.read_bytes()
    for damage in DAMAGES:
        for command in COMMANDS:
            DAMAGES[damage](path)
            started = time.monotonic()
            capsys.readouterr()
            try:
                code = run(*command.format(out=tmp_path / "out").split(), "--runs", stored)
            finally:
                restore(path, content)
            said = "".join(capsys.readouterr())
            assert code in (0, 1, 2) and "Traceback" not in said, (damage, command)
            assert time.monotonic() - started < SECONDS, (damage, command)
            if code == 1 or (command == "study list" and "study.yaml" in name):
                # A file that is missing is no damaged one.
                assert str(path) in said or damage == "missing", (damage, command, said)
            if command.startswith("report") or command in OTHERS[name]:
                assert code == 0, (damage, command, said)
