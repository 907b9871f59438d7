"""Cleaning finds what a folder of runs can do without, and deletes it."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import platformdirs

from benchmark.base.errors import WorldError
from benchmark.runs.groups import read_groups
from benchmark.runs.rundir import RunDir, all_runs


def litter(runs: Path) -> dict[str, list[Path]]:
    """Return what could be deleted, as a heading -> the files and folders under it.

    A finished run that a plan holds is never among them. A run that some process works on is left
    alone.

    Raises:
        UserError: a plan or a status file is damaged.
    """
    groups = read_groups(runs)
    planned = {key for group in groups for key in (*group.keys, *group.needed)}
    # A key that one plan superseded may be the current key of another plan.
    superseded = {key for group in groups for key in group.superseded} - planned
    removable: dict[str, list[Path]] = {
        "superseded runs": [],
        "failed runs": [],
        "pruned runs": [],
        "resume points of finished runs": [],
        "caches": [],
    }
    for run in all_runs(runs):
        state = run.status().state
        if run.claimed():
            continue
        if run.key in superseded:
            removable["superseded runs"].append(run.path)
        elif state in ("failed", "pruned"):
            removable[f"{state} runs"].append(run.path)
        elif state == "done" and (run.path / "state").exists():
            removable["resume points of finished runs"].append(run.path / "state")
    cache = platformdirs.user_cache_path("risbench")
    if cache.exists():
        removable["caches"].append(cache)
    return {heading: paths for heading, paths in removable.items() if paths}


def size(path: Path) -> int:
    """Return the size of a file, or of all files in a folder, in bytes."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def remove(removable: Mapping[str, Sequence[Path]]) -> None:
    """Delete what `litter` returned, but for runs that a process works on by now.

    Raises:
        UserError: a folder cannot be deleted.
    """
    for path in (path for paths in removable.values() for path in paths):
        # The user was asked in between, and another process may have begun this run since.
        if (path / "spec.yaml").exists() and RunDir(path).claimed():
            continue
        try:
            shutil.rmtree(path)
        except OSError as error:
            raise WorldError(
                f"{path} cannot be deleted ({error.strerror}): check its permissions."
            ) from None
