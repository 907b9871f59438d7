"""Fixtures that several tests share."""

from pathlib import Path

import pytest
import torch

from tests.helpers import SHARED, write_boxes


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small REFER folder."""
    return write_boxes(tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return ../shared; tests that need it are skipped where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here")
    return SHARED
