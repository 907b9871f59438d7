"""Follows a store whose folder was moved or copied.

MLflow keeps the artifacts of a database without a server under absolute paths. In another place
they would not be found, and new ones would be written to the old place.
"""

from pathlib import Path

from sqlalchemy import MetaData, Table, create_engine, func, inspect, select, update
from sqlalchemy.pool import NullPool

FOLDER = "mlartifacts"  # beside the database
# Where MLflow keeps such paths: table -> columns.
COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


def follow(database: Path, address: str) -> None:
    """Correct the paths of a store whose artifacts lie beside its database, and not where it says.

    Args:
        database: the file, with the store's tables or none.
        address: of the same file.
    """
    folder = database.parent / FOLDER
    if not folder.is_dir():
        return
    engine = create_engine(address, poolclass=NullPool)
    present = {*inspect(engine).get_table_names()}
    if not present >= COLUMNS.keys():
        return
    metadata = MetaData()
    tables = {name: Table(name, metadata, autoload_with=engine) for name in COLUMNS}
    here = folder.as_uri()
    with engine.begin() as connection:
        places = connection.scalars(select(tables["experiments"].c.artifact_location))
        roots = {f"{place.rpartition(f'/{FOLDER}/')[0]}/{FOLDER}" for place in places if place}
        for old in roots - {here, f"/{FOLDER}"}:
            for name, columns in COLUMNS.items():
                for column in (tables[name].c[its] for its in columns):
                    moved = here + func.substr(column, len(old) + 1)
                    its_own = func.substr(column, 1, len(old) + 1) == f"{old}/"
                    connection.execute(update(tables[name]).where(its_own).values({column: moved}))
