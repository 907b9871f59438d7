"""The commit that a run records is that of the suite's code."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys

from benchmark.runs.environment import git_state, versions
from tests.helpers import PROJECT

CODE = (
    "import json; from benchmark.runs.environment import git_state; print(json.dumps(git_state()))"
)
PACKAGES = ("benchmark", "methods", "reports", "studies")


def git(folder, *arguments):
    user = ("-c", "user.name=me", "-c", "user.email=me@host")
    done = subprocess.run(["git", *user, *arguments], cwd=folder, check=True, capture_output=True)
    return done.stdout.decode().strip()


def state_in(packages):
    """Return what the copy of the suite in a folder records."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", CODE],
        cwd=packages,
        env=os.environ | {"PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_package_that_has_another_distribution_is_left_out():
    """OpenCV comes as `opencv-python`, as `opencv-python-headless`, or as neither with conda."""
    numpy = importlib.metadata.version("numpy")
    assert versions(["numpy", "opencv-python-nowhere"]) == {"numpy": numpy}


def test_an_installed_package_records_no_commit_of_the_repository_around_it(tmp_path):
    packages = tmp_path / ".venv" / "lib" / "site-packages"
    for name in PACKAGES:
        shutil.copytree(PROJECT / name, packages / name)
    git(tmp_path, "init", "-q")
    (tmp_path / "other.txt").write_text("other")
    git(tmp_path, "add", "other.txt")
    git(tmp_path, "commit", "-q", "-m", "other")
    assert state_in(packages) == {"commit": "unknown", "dirty": None}
    # Where a repository tracks the suite's code, its commit says what the code is.
    git(tmp_path, "add", ".venv")
    git(tmp_path, "commit", "-q", "-m", "the suite, too")
    assert state_in(packages) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}


def test_a_checkout_records_its_commit():
    if (PROJECT / ".git").exists():
        assert git_state()["commit"] == git(PROJECT, "rev-parse", "HEAD")
