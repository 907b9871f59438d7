"""Fixtures of the tests of robustness."""

import pytest

from tests.helpers import copied


@pytest.fixture
def fresh(trained, tmp_path):
    """Return two finished runs of one data set, of methods that are fed differently."""
    return copied(tmp_path / "runs", *(trained(name, "baseline") for name in ("cris", "lavt")))
