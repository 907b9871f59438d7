"""A password of a store is seen by the store alone."""

import os
import subprocess
import sys
import threading
from urllib.parse import quote

import psutil
import pytest
import sqlalchemy

from tests.cli.commands import run
from tests.helpers import PROJECT
from tests.servers import postgres
from tests.studies.conftest import write_preset
from tests.studies.searches import TRIAL_PAPER, TRIAL_SPACE, written

PASSWORD = "hush/hush 7@all"
VARIABLES = ("RISBENCH_STORAGE", "MLFLOW_TRACKING_URI")


class CommandLines(threading.Thread):
    """Reads the command lines of all processes, as `ps` does, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            for process in psutil.process_iter(["cmdline"]):
                self.seen.add(" ".join(process.info["cmdline"] or []))

    def __enter__(self) -> set[str]:
        self.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def risbench(*arguments: object, folder, **variables: str) -> subprocess.CompletedProcess:
    """Run a command in a process of its own, and return what it said."""
    return subprocess.run(
        [sys.executable, "-m", "benchmark.cli", *map(str, arguments)],
        cwd=PROJECT,
        env=os.environ | {"HOME": str(folder)} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


def tables(url: str) -> str:
    """Return all rows of a database as one text."""
    engine = sqlalchemy.create_engine(url)
    schema = sqlalchemy.MetaData()
    schema.reflect(engine)
    with engine.connect() as connection:
        rows = [connection.execute(table.select()).all() for table in schema.tables.values()]
    engine.dispose()
    return str(rows)


def found(folder, *texts: str) -> list[str]:
    """Return where a password stands, in its own or in an address's spelling."""
    spellings = (PASSWORD, quote(PASSWORD, safe=""))
    files = [path for path in folder.rglob("*") if path.is_file()]
    places = [
        str(path)
        for path in files
        if any(its.encode() in path.read_bytes() or its in str(path) for its in spellings)
    ]
    return places + [text for text in texts if any(its in text for its in spellings)]


@pytest.mark.faults
@pytest.mark.slow
def test_nobody_sees_the_password_of_a_search_and_a_sync(boxes, tmp_path):
    with postgres(PASSWORD) as plain:
        url = plain.replace("ris@", f"ris:{quote(PASSWORD, safe='')}@")
        with sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE tracked")
        secrets = dict(zip(VARIABLES, (url, url.replace("/postgres", "/tracked")), strict=True))
        fields = {"kind": "search", "strategy": "maskris", "trials": 2, "pruner": "none"}
        fields |= {"space": TRIAL_SPACE, "paper": TRIAL_PAPER}
        work = tmp_path / "work"
        work.mkdir()
        study, preset = written(work, **fields), write_preset(work, boxes)
        places = ["--runs", work / "runs"]
        out = ["--out", work / "reports"]
        with CommandLines() as seen:
            search = risbench(
                *("study", "run", study, "--preset", preset, *places, *out), folder=work, **secrets
            )
            assert search.returncode == 0, search.stderr
            sync = risbench("sync", *places, folder=work, **secrets)
            assert sync.returncode == 0 and "2 unchanged" in sync.stdout, sync.stderr
            listed = risbench("study", "list", *places, folder=work, **secrets)
            assert "2/2" in listed.stdout
        assert any("study trial mine" in line for line in seen)
        said = [its.stdout + its.stderr for its in (search, sync, listed)]
        stored = [tables(address) for address in secrets.values()]
        assert "mine-boxes" in stored[0] and "refcoco" in stored[1]
        assert not found(work, *seen, *said, *stored)
        # The password may come from ~/.pgpass instead.
        socket = plain.partition("host=")[2]
        (work / ".pgpass").write_text(f"{socket}:*:*:ris:{PASSWORD}\n")
        (work / ".pgpass").chmod(0o600)
        address = plain.replace("/postgres", "/tracked")
        again = risbench("sync", *places, "--uri", address, folder=work)
        assert again.returncode == 0 and "2 unchanged" in again.stdout, again.stderr
    # A server that is gone is named without it.
    gone = risbench("sync", *places, folder=work, **secrets)
    listed = risbench("study", "show", "mine-boxes", *places, folder=work, **secrets)
    assert gone.returncode == 1 and "ris:***@" in gone.stderr
    assert "ris:***@" in listed.stderr
    assert not found(work / "runs", gone.stderr + gone.stdout, listed.stderr + listed.stdout)


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        (("sync", "--uri"), "MLFLOW_TRACKING_URI"),
        (("study", "show", "x", "--storage"), "RISBENCH_STORAGE"),
        (("report", "x", "--from-mlflow"), "RISBENCH_FROM_MLFLOW"),
    ],
)
@pytest.mark.parametrize(
    "address", ["http://me:hush@host", "postgresql://host/db?user=me&password=hush"]
)
def test_a_password_that_is_typed_is_refused(arguments, variable, address, tmp_path, capsys):
    assert run(*arguments, address, "--runs", tmp_path) == 2
    said = capsys.readouterr().err
    assert variable in said and "***" in said and "hush" not in said
