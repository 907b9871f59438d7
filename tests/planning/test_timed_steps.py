"""A step is timed once on a machine, and what is kept is never of another code or processor."""

import os

import pytest

from benchmark.planning import plan, timed_steps
from benchmark.planning.timed_steps import Timed
from benchmark.runs.execution import Execution
from tests.helpers import tiny_matrix, tiny_spec

CPU = Execution.of(device="cpu")


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    timed_steps._machine.cache_clear()
    timed_steps._code.cache_clear()
    yield
    timed_steps._machine.cache_clear()
    timed_steps._code.cache_clear()


@pytest.fixture
def spec(boxes):
    return tiny_spec(boxes, "lavt", "baseline")[0]


def test_a_plan_times_a_network_once(boxes, tmp_path, monkeypatch):
    names = {"methods": ("lavt",), "strategies": ("baseline", "maskris"), "seeds": (0, 1)}
    matrix = tiny_matrix(boxes, tmp_path / "runs", **names)
    measured = []

    def measure(spec, matrix):
        measured.append(spec.strategy.name)
        return Timed(1000, 7, 8, 0.5)

    monkeypatch.setattr(plan, "_measure", measure)
    first = plan.plan(matrix, None)
    assert measured == ["baseline", "maskris"], "seeds take the same time"
    again = plan.plan(matrix, None)
    assert measured == ["baseline", "maskris"]
    assert [run.seconds_left for run in again] == [run.seconds_left for run in first]
    assert plan.total_disk(again, 1) == plan.total_disk(first, 1) == (28, 8)
    plan.plan(matrix, True)
    assert len(measured) == 4, "whoever asks for it gets a new time"
    assert {run.measured for run in plan.plan(matrix, False)} == {None}


def test_what_is_kept_is_what_was_measured(spec):
    assert timed_steps.recall(spec, CPU) is None
    for timed in (Timed(5, 6, 7, 0.25), Timed(5, 6, 7, None)):
        timed_steps.keep(spec, CPU, timed)
        found = timed_steps.recall(spec, CPU)
        assert (found.parameters, found.kept, found.under_way) == (5, 6, 7)
        assert found.seconds == timed.seconds and 0 <= found.age < 60


def test_another_run_code_machine_or_number_of_threads_is_timed_anew(spec, boxes, monkeypatch):
    timed_steps.keep(spec, CPU, Timed(5, 6, 7, 0.25))
    other = tiny_spec(boxes, "lavt", "maskris")[0]
    assert timed_steps.recall(other, CPU) is None
    assert timed_steps.recall(spec, CPU.changed(threads=2)) is None
    for name in ("_code", "_machine"):
        with monkeypatch.context() as patch:
            patch.setattr(timed_steps, name, lambda: "another")
            assert timed_steps.recall(spec, CPU) is None
    assert timed_steps.recall(spec, CPU)


def test_a_busy_machine_and_a_gpu_keep_nothing(spec, monkeypatch):
    timed_steps.keep(spec, CPU.changed(device="cuda"), Timed(5, 6, 7, 0.25))
    assert timed_steps.recall(spec, CPU.changed(device="cuda")) is None
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    timed_steps.keep(spec, CPU, Timed(5, 6, 7, 0.25))
    assert timed_steps.recall(spec, CPU) is None


def test_a_text_of_another_kind_is_measured_again(spec):
    key = timed_steps._key(spec, CPU)
    for text in ("[]", "{", '{"parameters": 3}', '{"age": 3}'):
        timed_steps.cache.keep(timed_steps.KIND, key, text)
        assert timed_steps.recall(spec, CPU) is None
