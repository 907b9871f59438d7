"""What the tests of the commands share."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.cli.commands import run
from tests.helpers import once, write_boxes


def make_world(root: Path) -> None:
    """Write a REFER folder and a preset file, and make the two runs of the preset."""
    write_boxes(root / "data")
    preset = {
        "description": "boxes",
        "methods": ["cris"],
        "strategies": ["baseline", "maskris"],
        "datasets": ["refcoco"],
        "variants": ["tiny"],
        "seeds": [0],
        "data": str(root / "data"),
        "strategy": {"patch_size": 8},
        "recipes": {"cris": {"epochs": 1, "batch_size": 4, "micro_batch": 4}},
        "execution": {"device": "cpu"},
    }
    (root / "boxes.yaml").write_text(yaml.safe_dump(preset))
    places = ["--runs", root / "runs", "--out", root / "first"]
    assert run("matrix", "--preset", root / "boxes.yaml", *places, "--no-sync") == 0


@pytest.fixture(scope="session")
def world(common, tmp_path_factory):
    """A REFER folder, a preset file and its two finished runs, made once and copied here."""
    return copy_world(common, tmp_path_factory)


def copy_world(common, tmp_path_factory):
    """Return a copy of the world, for tests that add to its plan and its runs."""
    made = once(common / "world", make_world)
    return shutil.copytree(made, tmp_path_factory.mktemp("own") / "world")
