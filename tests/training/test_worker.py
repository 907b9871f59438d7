"""How a run that is stopped is left, by one process and by several."""

import os
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from benchmark.base.errors import Interrupted, UserError
from benchmark.runs.execution import Execution
from benchmark.runs.opened import Opened
from benchmark.runs.rundir import RunDir
from benchmark.training import worker
from benchmark.training.best_epoch import BestEpoch
from benchmark.training.report import Report
from benchmark.training.worker import work
from tests.helpers import PROJECT, tiny_spec

SIGNALS = [signal.SIGINT, signal.SIGTERM]
ALONE = Execution.of(device="cpu", checkpoint_seconds=1e9)
QUIET = Console(quiet=True)


def planned(boxes, folder, method="cris", epochs=40):
    recipe = {"epochs": epochs, "batch_size": 4, "micro_batch": 4}
    spec, places = tiny_spec(boxes, method, "baseline", recipes={method: recipe})
    run = RunDir(folder / spec.key)
    run.create(spec)
    return run, places


def is_interrupted(run):
    status = run.recorded_status()
    return (status.state, status.message, status.reason) == ("planned", "interrupted", "")


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("when", ["preparing", "reporting"])
def test_a_signal_outside_of_the_loop_leaves_interrupted(
    boxes, tmp_path, monkeypatch, number, when
):
    run, places = planned(boxes, tmp_path)
    if when == "preparing":
        monkeypatch.setattr(worker.Trainer, "_prepare", lambda *_: send(number))
    else:
        monkeypatch.setattr(worker.Trainer, "_epoch", lambda *_: None)
        monkeypatch.setattr(BestEpoch, "select", lambda *_: 0.0)
        monkeypatch.setattr(Report, "write", lambda *_: send(number))
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(Interrupted, match="is saved: the same command goes on"):
        work(run, Opened(places), ALONE, QUIET)
    assert is_interrupted(run)
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("processes", [1, 2])
def test_a_connection_that_breaks_since_all_were_stopped_is_no_failure(
    boxes, tmp_path, monkeypatch, processes
):
    """Another process has ended of the same signal, so the collective call of this one fails."""
    run, places = planned(boxes, tmp_path)
    execution = Execution.of(device="cpu", processes=processes)

    def broken(*arguments):
        with arguments[-1].heeded(at_once=False):
            send(signal.SIGTERM)
            raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(worker, "_train", broken)
    with pytest.raises(RuntimeError if processes == 1 else Interrupted):
        work(run, Opened(places), execution, QUIET)
    assert is_interrupted(run) == (processes == 2)


def test_a_connection_that_breaks_of_itself_is_a_failure(boxes, tmp_path, monkeypatch):
    run, places = planned(boxes, tmp_path)
    execution = Execution.of(device="cpu", processes=2)

    def broken(*_):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(worker, "_train", broken)
    with pytest.raises(RuntimeError):
        work(run, Opened(places), execution, QUIET)
    assert run.status().state == "failed" and "Connection closed" in run.status().reason


def test_torchrun_starts_nothing_anew_but_a_run_that_stalled(boxes, tmp_path, monkeypatch):
    run, places = planned(boxes, tmp_path)
    run.fail("no GPU can be used here")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(UserError, match=f"{run.key} failed: no GPU can be used here"):
        work(run, Opened(places), ALONE, QUIET)
    assert run.status().reason == "no GPU can be used here"


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_two_processes_that_are_stopped_leave_interrupted(boxes, tmp_path, monkeypatch, number):
    monkeypatch.setenv("RISBENCH_PLUGINS", str(PROJECT / "tests" / "plugins" / "toy_method.py"))
    run, places = planned(boxes, tmp_path, "toy", epochs=10_000)
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    options = ["--runs", tmp_path, "--data", places.data, "--device", "cpu", "--processes", "2"]
    command = [sys.executable, "-m", *torchrun, "benchmark.cli", "resume", run.key, *options]
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [*map(str, command)], stdout=log, stderr=log, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while run.recorded_status().step < 6:
            assert time.monotonic() < deadline and process.poll() is None, log.name
            time.sleep(0.05)
        process.send_signal(number)
        process.wait(60)
    text = (tmp_path / "log.txt").read_text()
    assert is_interrupted(run), text
    assert (run.path / "state" / "latest.pt").exists()
