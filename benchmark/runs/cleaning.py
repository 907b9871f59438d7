"""What a folder of runs can do without: superseded, failed and pruned runs, resume points of finished ones, and caches."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import platformdirs

from benchmark.base.errors import UserError
from benchmark.runs.groups import read_groups
from benchmark.runs.rundir import RunDir, all_runs


def litter(runs: Path) -> dict[str, list[Path]]:
    """Return what could go -> its files and folders; nothing that a plan holds and that is done is among them.

    A run that some process works on is left alone.
    """
    planned = {key for group in read_groups(runs) for key in (*group.keys, *group.needed)}
    superseded = {key for group in read_groups(runs) for key in group.superseded} - planned
    found: dict[str, list[Path]] = {
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
            found["superseded runs"].append(run.path)
        elif state in ("failed", "pruned"):
            found[f"{state} runs"].append(run.path)
        elif state == "done" and (run.path / "state").exists():
            found["resume points of finished runs"].append(run.path / "state")
    cache = platformdirs.user_cache_path("risbench")
    if cache.exists():
        found["caches"].append(cache)
    return {what: paths for what, paths in found.items() if paths}


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def remove(found: Mapping[str, Sequence[Path]]) -> None:
    """Delete what `litter` found.

    Raises:
        UserError: something cannot be deleted.
    """
    for path in (path for paths in found.values() for path in paths):
        # A run that was begun meanwhile is somebody's work.
        if (path / "spec.yaml").exists() and RunDir(path).claimed():
            continue
        try:
            shutil.rmtree(path)
        except OSError as error:
            raise UserError(
                f"{path} cannot be deleted ({error.strerror}): check its permissions."
            ) from None
