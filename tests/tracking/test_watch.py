"""The watch that keeps a store up to date, and syncs side by side."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.tracking import mlflow_client, mlflow_store, watch
from benchmark.tracking.tracker import Summary, Tracker
from tests.tracking.stores import make_run, spec_of, stored


def test_two_syncs_never_interleave(runs: Path):
    for seed in range(3):
        make_run(runs, spec_of(seed))
    with mlflow_store._lock(runs, mlflow_client.default_uri(runs)):
        summaries: list[Summary] = []
        threads = [
            threading.Thread(target=lambda: summaries.append(mlflow_store.sync(runs)))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        threads[0].join(0.3)
        assert all(thread.is_alive() for thread in threads)
    for thread in threads:
        thread.join()
    assert sorted((summary.created, summary.unchanged) for summary in summaries) == [(0, 3), (3, 0)]
    assert len(stored(runs)) == 4


def test_watch_follows_a_run_to_its_end(runs: Path):
    spec = spec_of()
    run = make_run(runs, spec, "running", lines=1)
    stop = threading.Event()
    thread = threading.Thread(
        target=watch.watch, args=(mlflow_store.TRACKER, runs, None, stop, 0.05)
    )
    thread.start()
    for _ in range(200):
        if run.key in stored(runs):
            break
        stop.wait(0.05)
    run.log(20, 0, {"train/loss": 0.5})
    run.log(20, 0, {"val/oiou": 0.25})
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert stored(runs)[spec.key]["points"]["train/loss"] == [(0, 0.75)]


class Asked(Tracker):
    """Hands each call of `sync` on, with the address and whether reports may wait."""

    def __init__(self, on_sync: Callable[[str | None, bool], Summary]) -> None:
        self.on_sync = on_sync

    def sync(
        self, runs: Path, address: str | None = None, reports: object = None, later: bool = False
    ) -> Summary:
        return self.on_sync(address, later)

    def fetched(self, *_: object) -> None:
        return None

    def ui_command(self, *_: object) -> tuple[list[str], dict[str, str]]:
        return [], {}


def test_watch_tells_of_a_dead_store_once_and_syncs_a_last_time(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    calls = []

    def flaky(address: str | None, later: bool) -> Summary:
        calls.append(address)
        if len(calls) < 4:
            raise UserError("the store is down.")
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return Summary(unchanged=2)

    before = signal.getsignal(signal.SIGTERM)
    watch.watch(Asked(flaky), tmp_path, "http://host", interval=0.01)
    assert len(calls) == 6
    down, again, summary = capsys.readouterr().err.splitlines()
    assert down == "the store is down." and "again" in again and "2 unchanged" in summary
    assert signal.getsignal(signal.SIGTERM) == before


def test_reports_are_made_now_and_then_and_at_the_end(tmp_path: Path):
    made = []
    stop = threading.Event()

    def recorded(address: str | None, later: bool) -> Summary:
        made.append(not later)
        if len(made) == 4:
            stop.set()
        return Summary()

    watch.watch(Asked(recorded), tmp_path, None, stop, interval=0.01)
    assert made == [True, False, False, False, True]
