"""Fixtures of the tests of tracking."""

import shutil
from pathlib import Path

import pytest

from benchmark.tracking import mlflow_store


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty MLflow database: making one takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("template")
    mlflow_store.sync(folder)
    return folder / "mlflow.db"


@pytest.fixture
def runs(tmp_path: Path, template: Path) -> Path:
    folder = tmp_path / "my runs"
    folder.mkdir()
    shutil.copy(template, folder / "mlflow.db")
    return folder
