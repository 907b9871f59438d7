"""The registry of launchers."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.launch import LAUNCHERS
from benchmark.launch.local import LocalLauncher
from tests.launch.processes import finish

TOY = '''
from benchmark.launch.base import JobStatus, Launcher, State

RISBENCH = {"launchers": {"dry": "DryRun"}}


class DryRun(Launcher):
    """Says of every job that it has ended well."""

    name = "dry"
    outlives = True
    gpus = 0

    def __init__(self, slots):
        self.slots, self.asked = slots, []

    def submit(self, jobs):
        return [job.name for job in jobs]

    def poll(self, ids):
        return {id: JobStatus(State.ENDED, 0) for id in ids}

    def stop(self, ids):
        self.asked += ids

    def adopt(self, record):
        pass
'''


def test_a_launcher_of_a_plugin_is_used_like_ours(job, tmp_path, monkeypatch):
    plugin = tmp_path / "toy.py"
    plugin.write_text(TOY)
    monkeypatch.setenv("RISBENCH_PLUGINS", str(plugin))
    assert LAUNCHERS.names() == ["dry", "local"]
    launcher = LAUNCHERS.get("dry")(slots=3)
    ids = launcher.submit([job("a", "raise SystemExit(1)"), job("b")])
    assert all(status.succeeded for status in finish(launcher, ids))
    assert LAUNCHERS.get("local") is LocalLauncher
    with pytest.raises(UserError, match="launcher 'locl' is not known: did you mean local"):
        LAUNCHERS.get("locl")


def test_the_registry_knows_names_without_importing_what_they_name():
    code = (
        "import sys; from benchmark.launch import LAUNCHERS\n"
        "assert 'local' in LAUNCHERS.names() and 'benchmark.launch.local' not in sys.modules\n"
        "import benchmark.launch.outcomes, benchmark.launch.local, benchmark.launch.jobs\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
