"""Fixtures of the tests of studies."""

import shutil
from pathlib import Path

import pytest
import yaml

from benchmark.runs.preset import PRESETS
from studies import study
from studies.trials import existing
from tests.helpers import once
from tests.studies.searches import in_order, prepared, url


def write_preset(folder: Path, data: Path) -> str:
    quick = yaml.safe_load((PRESETS / "quick.yaml").read_text())
    recipe = {"epochs": 2, "batch_size": 4, "micro_batch": 4}
    quick |= {"datasets": ["refcoco"], "data": str(data), "recipes": {"lavt": recipe}}
    path = folder / "boxes.yaml"
    path.write_text(yaml.safe_dump(quick))
    return str(path)


@pytest.fixture(autouse=True)
def undrawn(no_pictures):
    """No test of a study looks at the pictures of its runs."""


@pytest.fixture
def preset(boxes, tmp_path):
    """Return a preset file on the small data: LAVT in two epochs of a few steps."""
    return write_preset(tmp_path, boxes)


@pytest.fixture(scope="session")
def whole_search(common, boxes):
    """Return the folder of a search of four finished trials, made once per test run."""

    def search(folder: Path) -> None:
        folder.mkdir()
        found, runs = prepared(write_preset(folder, boxes), folder, trials=4)
        in_order(found, runs, 4)

    return once(common / "search", search)


@pytest.fixture
def finished_search(whole_search, tmp_path):
    """Return a copy of the finished search: what was started, its runs and its trials."""
    runs = shutil.copytree(whole_search / "runs", tmp_path / "finished")
    found = study.load(runs, "mine-boxes")
    return found, runs, existing(found, url(runs))
