"""Stores that are misspelt, silent, another tool's, of another version, or in another place."""

import contextlib
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading

import pytest
import sqlalchemy

from benchmark.base import databases
from benchmark.base.errors import UserError, WorldError
from benchmark.tracking import mlflow_client, mlflow_store
from studies.trials import default_storage, storage
from studies.trials.storage import open_storage
from tests.cli.commands import run
from tests.helpers import PROJECT
from tests.servers import postgres
from tests.tracking.stores import make_run, spec_of, stored

ERRORS = {1: WorldError, 2: UserError}  # exit code -> error
OLDER = "cfd24bdc0731"  # a revision of MLflow's tables long before MLflow 3


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(databases, "PAUSE", 0.0)


@contextlib.contextmanager
def silent_server():
    """Give the port of a server that accepts and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        kept = []

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    kept.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("address", "code", "reason"),
    [
        ("foo://host", 2, "kind of tracking address 'foo' is not known"),
        ("postgres://me@host/db", 2, "did you mean postgresql"),
        ("postgresql+psycopg://me@host:port/db", 2, "is no tracking address"),
        ("postgresql+psycopg://me@localhost:1/db", 1, "Connection refused"),
        ("postgresql+psycopg://me@nowhere.invalid/db", 1, "Name or service not known"),
        ("http://localhost:1", 1, "Connection refused"),
        ("http://nowhere.invalid", 1, "Name or service not known"),
    ],
)
def test_addresses_that_lead_nowhere(tmp_path, capsys, address, code, reason):
    if "psycopg" in address:
        pytest.importorskip("psycopg")
    assert run("sync", "--runs", tmp_path, "--uri", address) == code
    said = capsys.readouterr().err
    assert reason in said and "Traceback" not in said
    assert ("try 1 of 3" in said and "try 2 of 3" in said) == (code == 1)


@pytest.mark.parametrize(
    ("address", "code", "reason"),
    [
        ("postgres://me@host/db", 2, "dialects:postgres"),
        ("postgresql+psycopg://me@host:port/db", 2, "invalid literal"),
        ("postgresql+psycopg://me@localhost:1/db", 1, "Connection refused"),
    ],
)
def test_storages_that_lead_nowhere(capsys, address, code, reason):
    pytest.importorskip("psycopg")
    with pytest.raises(ERRORS[code], match=reason) as error:
        open_storage(address)
    assert len(str(error.value).splitlines()) == 1
    assert ("try 2 of 3" in capsys.readouterr().err) == (code == 1)


@pytest.mark.faults
@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:{}", "postgresql+psycopg://me@127.0.0.1:{}/db"]
)
def test_a_server_that_says_nothing_has_a_limit(tmp_path, capsys, monkeypatch, address):
    if "psycopg" in address:
        pytest.importorskip("psycopg")
    monkeypatch.setattr(databases, "SECONDS", 2)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with silent_server() as port:
        assert run("sync", "--runs", tmp_path, "--uri", address.format(port)) == 1
    said = capsys.readouterr().err
    assert "does not answer, try 2 of 3" in said and "No run is lost" in said


def made_by(folder, *statements):
    """Return a database that some SQL has made."""
    file = folder / "theirs.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return file


def test_a_database_of_something_else_is_left_alone(tmp_path, capsys):
    file = made_by(tmp_path, "CREATE TABLE photos (id INTEGER)")
    content = file.read_bytes()
    address = databases.sqlite_address(file)
    assert run("sync", "--runs", tmp_path, "--uri", address) == 2
    assert "holds tables of something else (photos)" in capsys.readouterr().err
    with pytest.raises(UserError, match="tables of something else .photos. and none of Opt"):
        open_storage(address)
    assert file.read_bytes() == content
    # MLflow's database is no storage, and the other way round.
    mlflow_store.sync(tmp_path)
    with pytest.raises(UserError, match="none of Optuna"):
        open_storage(mlflow_client.default_uri(tmp_path))
    open_storage(default_storage(tmp_path))
    assert run("sync", "--runs", tmp_path, "--uri", default_storage(tmp_path)) == 2
    assert "none of MLflow" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("revision", "dropped", "words"),
    [
        (OLDER, "", "made by an older MLflow .*mlflow db upgrade"),
        (OLDER, "logged_models", "made by an older MLflow .*mlflow db upgrade"),
        ("123456789abc", "", "made by a newer MLflow .*pip install --upgrade mlflow"),
    ],
)
def test_a_store_of_another_version_is_left_alone(runs, capsys, revision, dropped, words):
    make_run(runs, spec_of())
    mlflow_store.sync(runs)
    file = runs / "mlflow.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(f"UPDATE alembic_version SET version_num = '{revision}'")
        connection.executescript(f"DROP TABLE {dropped};" if dropped else "")
        connection.commit()
    content = file.read_bytes()
    # A second spelling is a store that this process has not opened yet.
    again = shutil.move(runs, runs.with_name("again"))
    assert run("sync", "--runs", again) == 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert re.search(words, said), said
    assert (again / "mlflow.db").read_bytes() == content


@pytest.mark.parametrize("revision", ["v2.4.0.a", "v9.9.9.a"])
def test_a_storage_of_another_version_is_said(tmp_path, revision):
    open_storage(default_storage(tmp_path))
    with contextlib.closing(sqlite3.connect(tmp_path / "optuna.db")) as connection:
        connection.execute(f"UPDATE alembic_version SET version_num = '{revision}'")
        connection.commit()
    words = "optuna storage upgrade" if revision < "v3" else "pip install -U optuna"
    with pytest.raises(WorldError, match=words):
        open_storage(default_storage(tmp_path))


@pytest.mark.parametrize("name", ["a%20b", "a?b", "a#b", "a b", "a[b]", "a+b&c=d", "ü", "a@b:c"])
def test_folders_have_any_name(runs, name):
    """Whatever a store makes lies in the folder, and in no other one."""
    parent = runs.parent / "parent"
    parent.mkdir()
    folder = shutil.move(runs, parent / name)
    make_run(folder, spec_of())
    assert mlflow_store.sync(folder).created == 1
    assert mlflow_store.sync(folder).unchanged == 1
    assert "result.json" in stored(folder)[spec_of().key]["files"]
    open_storage(default_storage(folder))
    assert {path.name for path in parent.iterdir()} == {name}
    assert {"mlflow.db", "mlartifacts", "optuna.db"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("copied", [False, True])
def test_a_store_follows_its_folder(runs, copied):
    key = make_run(runs, spec_of()).key
    mlflow_store.sync(runs)
    before = stored(runs)
    new = runs.with_name("new place")
    shutil.copytree(runs, new) if copied else shutil.move(runs, new)
    make_run(new, spec_of(seed=1))
    summary = mlflow_store.sync(new)
    assert summary.created == 1 and not summary.failed
    after = stored(new)
    assert after[key] == before[key] and len(after) == len(before) + 1
    assert runs.exists() == copied
    assert not copied or stored(runs) == before


CODE = """
import sys
from pathlib import Path
from benchmark.tracking import mlflow_store
print(mlflow_store.sync(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.faults
@pytest.mark.campaign
def test_eight_folders_are_synced_into_an_empty_database_at_once(tmp_path):
    folders = [tmp_path / f"runs{number}" for number in range(8)]
    keys = {make_run(folder, spec_of(seed)).key for seed, folder in enumerate(folders)}
    with postgres() as address:
        words = [[sys.executable, "-c", CODE, str(folder), address] for folder in folders]
        syncs = [
            subprocess.Popen(its, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for its in words
        ]
        said = [sync.communicate(timeout=120)[0].decode() for sync in syncs]
        assert all("1 runs created" in text for text in said), said
        assert keys <= stored(folders[0], address).keys()


STORAGE = "import sys; from studies.trials.storage import open_storage; open_storage(sys.argv[1])"


def test_a_storage_that_another_process_has_half_made_is_not_opened_yet(tmp_path, monkeypatch):
    address = databases.sqlite_address(tmp_path / "shared.db")
    with sqlite3.connect(tmp_path / "shared.db") as half_made:
        half_made.execute("CREATE TABLE studies (study_id INTEGER)")
    looked, opened = threading.Event(), threading.Event()
    owner = storage.check_owner
    monkeypatch.setattr(storage, "check_owner", lambda *args: (owner(*args), looked.set())[0])
    monkeypatch.setattr(storage, "RDBStorage", lambda *args, **how: opened.set())
    opening = threading.Thread(target=open_storage, args=[address])
    with databases.creation_lock(address):
        opening.start()
        assert looked.wait(60) and not opened.wait(0.5)
    opening.join(60)
    assert opened.is_set()


@pytest.mark.faults
@pytest.mark.campaign
def test_eight_searches_make_one_empty_storage_at_once(tmp_path):
    with postgres() as address:
        for storage in (address, databases.sqlite_address(tmp_path / "shared.db")):
            words = [sys.executable, "-c", STORAGE, storage]
            opened = [
                subprocess.Popen(words, cwd=PROJECT, stderr=subprocess.PIPE) for _ in range(8)
            ]
            said = [its.communicate(timeout=120)[1].decode() for its in opened]
            assert not any(its.returncode for its in opened), said
            names = {*sqlalchemy.inspect(sqlalchemy.create_engine(storage)).get_table_names()}
            assert "studies" in names
