"""Fixtures of the tests of launchers."""

import sys

import pytest

from benchmark.launch.base import Job


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def job(tmp_path):
    """Return a function that makes a job of a Python program."""

    def make(name: str, code: str = "", **fields) -> Job:
        command = fields.pop("command", (sys.executable, "-c", code))
        log = fields.pop("log", tmp_path / f"{name}.txt")
        return Job(name, command, log, **fields)

    return make
