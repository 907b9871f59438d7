"""Fixtures of the tests of reports."""

import pytest

from reports.studies.grids.results import results
from tests.reports.grids import finish_all, start


@pytest.fixture(scope="session")
def components(tmp_path_factory):
    """Return the finished seven rows of Table 3 and their results, to read alone."""
    runs = tmp_path_factory.mktemp("components")
    started = finish_all(runs, start())
    return started, results(started, runs)
