"""The store behind a tracking address, and what keeps it from being used."""

import contextlib
import logging
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from mlflow.exceptions import MlflowException
from mlflow.store.db.base_sql_model import Base
from mlflow.tracking import MlflowClient
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from benchmark.base.addresses import masked
from benchmark.base.databases import (
    SECONDS,
    TRIES,
    check_owner,
    creation_lock,
    limited,
    parsed,
    reason_of,
    sqlite_address,
    with_retries,
)
from benchmark.base.errors import UserError, WorldError, choose
from benchmark.base.files import open_regular
from benchmark.tracking.moved import FOLDER, follow

KINDS = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")
OWN = ("experiments", "runs")  # tables that MLflow has had in every version
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


def default_uri(runs: Path) -> str:
    """Return the tracking URI that is used if none is given, a database in the folder of runs."""
    return sqlite_address(runs.resolve() / "mlflow.db")


def database_file(uri: str) -> Path | None:
    """Return the file behind a SQLite URI, or None for any other store.

    Raises:
        UserError: `uri` is no URI. MLflow 3 refuses plain folders.
    """
    try:
        url = parsed(uri)
    except ArgumentError:
        raise UserError(
            f"'{masked(uri)}' is no tracking address: give sqlite:///<file> or http://<host>:<port>."
        ) from None
    choose(url.get_backend_name(), KINDS, "kind of tracking address")
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database:
        raise UserError(f"'{uri}' names no file: give sqlite:///<file>.")
    return Path(url.database).resolve()


def artifact_folder(runs: Path, uri: str) -> Path:
    """Return where artifacts lie for a store without a server, which is beside its database."""
    file = database_file(uri)
    return (file.parent if file else runs.resolve()) / FOLDER


_inodes: dict[Path, list[int]] = defaultdict(list)


@event.listens_for(Engine, "connect")
def _without_waiting(connection: Any, _: Any) -> None:
    """Let SQLite leave it to the system when what it wrote reaches the disk.

    Each commit would wait for the disk, and a run takes a dozen. The end of a process loses nothing
    by this. After a power cut the database may have to be deleted, and a sync makes it again.
    """
    if not isinstance(connection, sqlite3.Connection):
        return
    # MLflow tries for minutes to connect to a file that is no database, but reads it only once.
    with contextlib.suppress(sqlite3.DatabaseError):
        files = [row[2] for row in connection.execute("PRAGMA database_list")]
        if any(Path(file).resolve() in _inodes for file in files if file):
            connection.execute("PRAGMA synchronous = OFF")


def for_mlflow(uri: str) -> str:
    """Return an address by which MLflow makes no folder but that of the file.

    It would read `sqlite:///a%20b/mlflow.db` as the name of a folder `a%20b`, and make it.
    """
    url = make_url(uri)
    if url.drivername == "sqlite":
        url = url.set(drivername="sqlite+pysqlite")
    return url.render_as_string(hide_password=False)


def client_of(uri: str) -> MlflowClient:
    """Return a client of the store. An empty database is made if there is none."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # What a database raises is said in one sentence, and MLflow would log its traceback, too.
    logging.getLogger("mlflow.store").setLevel(logging.CRITICAL)
    given, file = uri, database_file(uri)
    if file:
        # MLflow keeps a database open by its URI for the life of the process. A `watch` may see one
        # deleted and made again. The new one gets another spelling, or its rows would go into the
        # deleted file.
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        # MLflow would try for minutes to connect to a folder or a pipe.
        open_regular(file).close()
        inode = file.stat().st_ino
        if inode not in _inodes[file]:
            _inodes[file].append(inode)
        spelling = f"{file.parent}{'/.' * _inodes[file].index(inode)}/{file.name}"
        uri = make_url(for_mlflow(uri)).set(database=spelling).render_as_string()
    if is_server(uri):
        return _answering(uri)
    # MLflow would try for minutes to reach a database, and make its tables among those of others.
    tables = check_owner(given, OWN, "MLflow")
    uri = limited(uri)
    # A sync holds the lock of a file already. Of a server's database, another process may have made
    # some tables and not all, so it is looked at again once that process is done.
    with contextlib.nullcontext() if file else creation_lock(uri):
        if tables and not check_owner(given, OWN, "MLflow") >= Base.metadata.tables.keys():
            _check_version(uri)
        client = _opened(uri)
    if file and tables:
        follow(file, uri)
    return client


def is_server(uri: str) -> bool:
    """Return whether an address is that of an MLflow server, and not of a database."""
    return uri.startswith(("http:", "https:"))


def _answering(uri: str) -> MlflowClient:
    """Return a client of an MLflow server, once it has answered."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(SECONDS))
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    retries = os.environ.get(RETRIES)
    # Here every try is shown. Later ones are MLflow's own, which would try for many minutes.
    os.environ[RETRIES] = "0"
    try:
        with_retries(lambda: client.search_experiments(max_results=1), MlflowException, uri)
    finally:
        os.environ[RETRIES] = retries or str(TRIES)
    return client


def _opened(uri: str) -> MlflowClient:
    """Return a client of a database, whose tables MLflow makes where it is empty."""
    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except MlflowException:
        _check_version(uri)
        raise


def _check_version(uri: str) -> None:
    """Check that the tables are those of this MLflow, which would change older ones on its own.

    Tables without a run are those of a store that was just begun, and MLflow completes them.

    Raises:
        UserError: they are older or newer.
    """
    engine = create_engine(uri, poolclass=NullPool)
    if not inspect(engine).has_table("runs"):
        return
    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found == scripts.get_current_head():
            return
        known = found is None or found in {its.revision for its in scripts.walk_revisions()}
        if known and not connection.execute(text("SELECT 1 FROM runs LIMIT 1")).all():
            return
    shown = masked(uri).replace("sqlite+pysqlite:", "sqlite:")
    remedy = (
        f"keep a copy and upgrade it with `mlflow db upgrade {shown}`"
        if known
        else "update MLflow with `pip install --upgrade mlflow`"
    )
    raise UserError(
        f"the tracking store {shown} was made by {'an older' if known else 'a newer'} MLflow"
        f" than {mlflow.__version__}: {remedy}, or give another --uri."
    )


@contextlib.contextmanager
def readable_errors(uri: str) -> Iterator[None]:
    """Turn what a store can raise into one sentence."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{uri.split(':')[0]} needs a database driver ({error}): install it."
        ) from None
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise WorldError(
            f"the tracking store {masked(uri)} cannot be used ({reason_of(error)}). No run is lost:"
            " put it right or give another --uri, and `risbench sync` sends what is missing."
        ) from None
