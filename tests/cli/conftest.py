"""What the tests of the commands share."""

import pytest
import yaml

from tests.cli.commands import run
from tests.helpers import write_boxes


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A REFER folder, a preset file and its two finished runs."""
    root = tmp_path_factory.mktemp("world")
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
    assert (
        run(
            "matrix",
            "--preset",
            root / "boxes.yaml",
            "--runs",
            root / "runs",
            "--out",
            root / "first",
        )
        == 0
    )
    return root
