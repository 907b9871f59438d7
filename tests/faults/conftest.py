"""What the fault campaign shares with the tests of commands and studies."""

import shutil

import pytest

from tests.cli.conftest import make_world
from tests.helpers import once


@pytest.fixture
def world(common, tmp_path):
    """A REFER folder, a preset file and its two finished runs, which each test may damage."""
    return shutil.copytree(once(common / "world", make_world), tmp_path / "world")
