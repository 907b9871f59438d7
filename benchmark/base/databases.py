"""Databases that several processes share: whether they answer in time, and whose they are."""

import contextlib
import re
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import NullPool

from benchmark.base.addresses import masked
from benchmark.base.errors import UserError
from benchmark.base.locks import locked
from benchmark.base.texts import say

SECONDS = 20  # in which a server has to answer
TRIES = 3
PAUSE = 1.0  # seconds before another try

# Statements that wait for a lock that ends with the connection. The number is an arbitrary name.
LOCKS = {
    "postgresql": "SELECT pg_advisory_lock(20241119067)",
    "mysql": "SELECT GET_LOCK('risbench', -1)",
    "mariadb": "SELECT GET_LOCK('risbench', -1)",
}

Answer = TypeVar("Answer")


def sqlite_address(file: Path) -> str:
    """Return the address of a file, in which `%`, `?`, `#` and the like are written out."""
    return URL.create("sqlite", database=str(file)).render_as_string()


def parsed(address: str) -> URL:
    """Return the parts of an address.

    Raises:
        ArgumentError: it is no address of a database.
    """
    try:
        return make_url(address)
    except ValueError as error:  # a port that is no number
        raise ArgumentError(str(error)) from None


def limited(address: str) -> str:
    """Return the address of a database with the time in which its server has to answer.

    Raises:
        ArgumentError: it is no address of a database.
    """
    url = parsed(address)
    on_server = url.get_backend_name() in ("postgresql", "mysql", "mariadb")
    if on_server and "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": str(SECONDS)})
    return url.render_as_string(hide_password=False)


def check_owner(address: str, own: Collection[str], owner: str) -> set[str]:
    """Return the tables of a database that is empty or its owner's, once it has answered.

    Nothing is written. A server that does not answer is tried again, which is shown.

    Args:
        address: of the database.
        own: names of tables by one of which the owner's database is known.
        owner: name of what the database is for, which a message names.

    Raises:
        ArgumentError, ImportError: the address is wrong, or a driver is missing.
        SQLAlchemyError: the database does not answer, or is none.
        UserError: it holds tables of something else.
    """
    if parsed(address).get_backend_name() == "sqlite":
        tables = _tables(address)  # A file does not come back.
    else:
        tables = with_retries(lambda: _tables(address), OperationalError, address)
    if tables and not tables & {*own}:
        some = ", ".join(sorted(tables)[:3])
        raise UserError(
            f"the database {masked(address)} holds tables of something else ({some}) and none of"
            f" {owner}: give the address of an empty one."
        )
    return tables


def _tables(address: str) -> set[str]:
    engine = create_engine(limited(address), poolclass=NullPool)
    return {*inspect(engine).get_table_names()}


@contextlib.contextmanager
def creation_lock(address: str) -> Iterator[None]:
    """Keep other processes waiting that make tables in the same database, on any machine.

    Of two processes that make the same tables at once, one fails. The lock is the server's own, and
    a file's is a lock file beside it. It is free again once its process is dead.
    """
    url = parsed(address)
    if url.get_backend_name() == "sqlite":
        with locked(Path(f"{url.database}.lock")):
            yield
    elif url.get_backend_name() in LOCKS:
        engine = create_engine(limited(address), poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text(LOCKS[url.get_backend_name()]))
            yield
    else:
        yield


def with_retries(ask: Callable[[], Answer], error: type[Exception], address: str) -> Answer:
    """Return what a server answers, which is asked `TRIES` times if it has to be.

    Every try that failed and is followed by another one is shown on stderr.

    Args:
        ask: asks it.
        error: what a server that does not answer raises. The last one is passed on.
        address: of the server, which messages name.
    """
    for number in range(1, TRIES):
        try:
            return ask()
        except error as last:
            reason = reason_of(last)
            say(f"{masked(address)} does not answer, try {number} of {TRIES} ({reason}).")
            time.sleep(PAUSE)
    return ask()


def reason_of(error: Exception) -> str:
    """Return what a store's error says, on one line and without passwords."""
    said = str(getattr(error, "orig", None) or error.__cause__ or error)
    # The libraries of HTTP wrap what happened in each other's words.
    core = re.search(r"\[Errno -?\d+\] ([\w ]+)|(Read timed out)", said)
    line = core[1] or core[2] if core else said.strip().split("\n")[0]
    return masked(line.rpartition(" failed with exception ")[2][:200])
