"""Follows a store whose folder was moved or copied.

MLflow keeps the artifacts of a database without a server under absolute paths. In another place
they would not be found, and new ones would be written to the old place.
"""

from pathlib import Path

from sqlalchemy import column, create_engine, func, select, table, update
from sqlalchemy.pool import NullPool

FOLDER = "mlartifacts"  # beside the database
EXPERIMENTS = table("experiments", column("artifact_location"))
# Where MLflow keeps such paths.
TABLES = (
    EXPERIMENTS,
    table("runs", column("artifact_uri")),
    table("logged_models", column("artifact_location")),
    table("model_versions", column("source"), column("storage_location")),
)


def follow(database: Path, address: str) -> None:
    """Correct the paths of a store whose artifacts lie beside its database, and not where it says.

    Args:
        database: the file, which holds MLflow's tables.
        address: of the same file.

    Raises:
        SQLAlchemyError: the database cannot be read or written.
    """
    folder, mark = database.parent / FOLDER, f"/{FOLDER}/"
    if not folder.is_dir():
        return
    here = f"{folder.as_uri()}/"
    with create_engine(address, poolclass=NullPool).begin() as connection:
        places = connection.scalars(select(EXPERIMENTS.c.artifact_location)).all()
        roots = {place.rpartition(mark)[0] + mark for place in places if mark in (place or "")}
        for old in roots - {here}:
            for its in TABLES:
                for path in its.c:
                    moved = here + func.substr(path, len(old) + 1)
                    is_old = func.substr(path, 1, len(old)) == old
                    connection.execute(update(its).where(is_old).values({path: moved}))
