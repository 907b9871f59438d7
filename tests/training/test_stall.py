"""A run that lives and makes no step is noticed, started anew once, and then fails."""

import os
import subprocess
import sys
import threading
import time

import pytest

from benchmark.launch.jobs import DISTRIBUTED
from benchmark.runs.rundir import RunDir
from benchmark.training.stall import FACTOR, FIRST, StallWatch
from tests.helpers import PROJECT, tiny_spec

TOY = PROJECT / "tests" / "plugins" / "toy_method.py"
# A loader that hands out some batches and then waits for one that never comes, as after the death
# of its process. A file counts how often that has happened.
DEAD_LOADER = """
import os, sys, time
from pathlib import Path
from benchmark.data import samples
from benchmark.cli.app import main
counter, deaths = Path(sys.argv.pop(1)), int(sys.argv.pop(1))
batch = samples.TrainingSamples.batch
drawn = []

def batch_or_silence(self, units, epoch):
    drawn.append(1)
    died = len(counter.read_text()) if counter.exists() else 0
    if os.environ.get("RANK", "1") == "1" and len(drawn) > 2 and died < deaths:
        counter.write_text("x" * (died + 1))
        time.sleep(600)
    return batch(self, units, epoch)

samples.TrainingSamples.batch = batch_or_silence
main()
"""


# The first process decodes pictures for a while, of which it tells, and the other one waits for it.
LONG_PREPARATION = """
import sys, time
from benchmark.training import trainer
from benchmark.cli.app import main
rehearse, seconds = trainer.rehearse, int(sys.argv.pop(1))

def slowly(*arguments):
    for number in range(10 * seconds):
        time.sleep(0.1)
        arguments[-1](f"decoding {number}")
    rehearse(*arguments)

trainer.rehearse = slowly
main()
"""


def watched(least, during):
    """Return the seconds of silence with which a watch called, or nothing where it did not."""
    called = []
    watch = StallWatch(least, called.append)
    with watch.watching():
        during(watch)
    return called


def signs(watch, number, seconds):
    for _ in range(number):
        watch.sign()
        time.sleep(seconds)


def test_silence_is_noticed_and_signs_are_not():
    assert not watched(0.5, lambda watch: signs(watch, 10, 0.1))
    (seconds,) = watched(0.2, lambda watch: (watch.sign(), time.sleep(1.0)))
    assert 0.2 < seconds < 1.0


def test_the_first_step_may_take_longer_and_is_watched():
    assert not watched(0.5, lambda watch: time.sleep(1.0))
    (seconds,) = watched(0.1, lambda watch: time.sleep(1.5))
    assert FIRST * 0.1 < seconds < 1.5


def test_a_long_preparation_that_reports_is_no_stall():
    def prepare(watch):
        for _ in range(12):
            watch.prepare()
            time.sleep(0.1)
        assert watch.longest == 0.0

    assert not watched(0.1, prepare)


def test_a_message_in_the_loop_does_not_hide_its_silence():
    watch = StallWatch(600, lambda seconds: None)
    watch.sign()
    watch.silent = 100.0
    watch.prepare()
    assert watch.silent == 100.0


def test_long_steps_are_allowed_to_be_longer():
    watch = StallWatch(600, lambda seconds: None)
    watch.sign()
    watch.silent = 100.0
    watch.sign()
    assert watch.limit == FACTOR * 100 and watch.silent == 0


def test_the_watch_ends_with_its_block():
    watch = StallWatch(0.2, lambda seconds: pytest.fail("it was called"))
    with watch.watching():
        watch.sign()
    time.sleep(0.5)
    assert "stall watch" not in [thread.name for thread in threading.enumerate()]


def resumed(boxes, folder, script, *arguments, processes):
    """Train the toy method by a script that changes the suite, and return its run and the end."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RISBENCH_PLUGINS", str(TOY))
        spec, places = tiny_spec(boxes, "toy", "baseline")
        run = RunDir(folder / "runs" / spec.key)
        run.create(spec)
        path = folder / "script.py"
        path.write_text(script)
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--max-restarts=1"]
        torchrun = [*torchrun, "--nproc-per-node=2"] if processes == 2 else []
        command = [sys.executable, *torchrun, path, *arguments]
        command += ["resume", run.key, "--runs", run.path.parent, "--data", places.data]
        command += ["--device", "cpu", "--stall-seconds", "2", "--checkpoint-seconds", "0"]
        command += ["--processes", processes]
        environment = {**os.environ, **DISTRIBUTED, "PYTHONPATH": str(PROJECT)}
    return run, subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env=environment, timeout=240
    )


@pytest.mark.faults
@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("deaths", "state", "code"), [(1, "done", 0), (2, "failed", 1)])
def test_a_dead_loader_is_retried_once(boxes, tmp_path, processes, deaths, state, code):
    """Of two processes one has a dead loader, and the other waits for its gradients."""
    arguments = (tmp_path / "deaths", deaths)
    run, done = resumed(boxes, tmp_path, DEAD_LOADER, *arguments, processes=processes)
    assert (done.returncode, run.status().state) == (code, state), done.stderr
    assert "so it is started anew" in done.stderr and "batch_or_silence" in done.stderr
    assert "most recent call first" in done.stderr
    if state == "failed":
        assert "s, also after it was started anew" in run.status().reason
        assert f"error: {run.key}: it made no step" in done.stderr


@pytest.mark.faults
@pytest.mark.campaign
@pytest.mark.slow
def test_a_process_waits_for_the_preparation_of_the_first_one(boxes, tmp_path):
    """Eight times the limit is more than it would be given alone before its first step."""
    run, done = resumed(boxes, tmp_path, LONG_PREPARATION, 16, processes=2)
    assert (done.returncode, run.status().state) == (0, "done"), done.stderr
    assert "started anew" not in done.stderr
