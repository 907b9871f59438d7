"""Fixtures of the tests of RefShapes."""

import json

import pytest

from benchmark.data.refshapes.writer import write_refshapes
from tests.data.refshapes.reading import NAMES, SIZE
from tests.helpers import once


@pytest.fixture(scope="session")
def root(common):
    """Return a folder with all three data sets, which no test may change."""

    def write(folder):
        for name in NAMES:
            write_refshapes(folder, name, SIZE)

    return once(common / "refshapes", write)


@pytest.fixture(scope="session")
def scenes(root):
    return {name: json.loads((root / name / "scenes.json").read_text()) for name in NAMES}
