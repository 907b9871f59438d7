"""Fixtures that several tests share, and what all worker processes of one test run make once."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmark.evaluation import overlays
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training.trainer import Trainer
from tests.helpers import SHARED, once, tiny_spec, write_boxes

Trained = Callable[..., RunDir]


# The longest ones first, so that no worker is left with one of them at the end.
FIRST = ("tests/parity/", "tests/cli/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest modules."""
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all worker processes of this test run share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "common"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def boxes(common: Path) -> Path:
    """Return a small REFER folder, which no test may change."""
    return once(common / "boxes", write_boxes)


@pytest.fixture(scope="session")
def trained(common: Path, boxes: Path) -> Trained:
    """Return a function that gives a finished run of `tiny_spec` on the boxes.

    Each run is trained once, by the first worker that asks for it. A test that changes a run
    takes a copy (`copied`).
    """

    def get(method: str, strategy: str, /, **changes: object) -> RunDir:
        spec, places = tiny_spec(boxes, method, strategy, **changes)

        def train(folder: Path) -> None:
            run = RunDir(folder)
            run.create(spec)
            how = Execution.of(device="cpu", checkpoint_seconds=1e9, log_every=2)
            Trainer(spec, run, Opened(places), how).train()

        return RunDir(once(common / "runs" / spec.key, train))

    return get


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train without drawing overlays, which take longer than an epoch of these small runs."""
    monkeypatch.setattr(overlays, "write", lambda *_: None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return ../shared. Tests that need it are skipped where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here")
    return SHARED
