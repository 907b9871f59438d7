"""The constructed plan, made once for all tests that read it alone."""

import dataclasses
from pathlib import Path

import pytest

from reports.page import report
from tests.reports.page import constructed


@dataclasses.dataclass
class Made:
    """The constructed plan and its page.

    Attributes:
        runs: folder of the run directories.
        page: what the page shows.
        html: its text.
        path: file that holds it.
    """

    runs: Path
    page: report.Page
    html: str
    path: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Return the constructed plan and its page."""
    runs = tmp_path_factory.mktemp("states") / "runs"
    page = constructed.page_of(runs, constructed.make(runs))
    path = runs.parent / "index.html"
    path.write_text(report.as_html(page))
    return Made(runs, page, path.read_text(), path)
