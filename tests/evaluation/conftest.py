"""Fixtures of the tests of evaluation."""

import pytest

from tests.evaluation.plugins import PLUGIN


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Return a file of metrics that RISBENCH_PLUGINS names."""
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    monkeypatch.setenv("RISBENCH_PLUGINS", str(path))
    return path
