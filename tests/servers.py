"""Servers that tests start, kill and start again."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def postgres(password: str = "") -> Iterator[str]:
    """Start a PostgreSQL server of its own on a socket and give its URL, without the password.

    A test is skipped where no server is installed.

    Args:
        password: of the user `ris`. Without it, everybody may connect.
    """
    pytest.importorskip("psycopg")
    if not (shutil.which("initdb") and shutil.which("pg_ctl")):
        pytest.skip("no PostgreSQL server is installed here")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    user = "postgres" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
    secret = folder / "secret"
    secret.write_text(password)
    if user:
        shutil.chown(folder, user)
        shutil.chown(secret, user)

    def command(*parts: str) -> None:
        subprocess.run(
            parts,
            user=user,
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    data, options = str(folder / "data"), f"-c listen_addresses= -k {folder}"
    how = ("-A", "scram-sha-256", "--pwfile", str(secret)) if password else ("-A", "trust")
    command("initdb", "-D", data, "-U", "ris", "--no-sync", *how)
    command("pg_ctl", "-D", data, "-o", options, "-w", "start")
    try:
        yield f"postgresql+psycopg://ris@/postgres?host={folder}"
    finally:
        command("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)
