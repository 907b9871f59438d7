"""Several folders of runs, say of several machines, that are read as one."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.runs.groups import read_groups, write_plan
from benchmark.runs.rundir import RunDir, all_runs

FURTHEST = ("done", "running", "failed", "pruned", "planned", "damaged")


@contextlib.contextmanager
def joined(folders: Sequence[Path]) -> Iterator[Path]:
    """Give a folder in which the runs and plans of several folders lie together.

    It holds links, so nothing is copied and nothing of the folders changes. A plan that lies in
    several of them has the cells of all. Of a run that lies in several of them, the one that is
    furthest is read: the finished one, and of two such that with results under more conditions.

    Args:
        folders: at least one. A single one is given as it is.

    Raises:
        UserError: one is no folder, or a plan or status in it is damaged.
    """
    if len(folders) == 1:
        yield folders[0]
        return
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder of runs {folder}: check the path.")
    with tempfile.TemporaryDirectory(prefix="risbench-") as made:
        whole = Path(made)
        candidates: dict[str, list[RunDir]] = {}
        for folder in folders:
            for run in all_runs(folder):
                candidates.setdefault(run.key, []).append(run)
        for key, several in candidates.items():
            chosen = min(several, key=_behind)
            (whole / key).symlink_to(chosen.path.resolve())
        for folder in folders:
            for group in read_groups(folder):
                write_plan(whole, group, add=True)
            # What belongs to a plan comes from the first folder that has it.
            for path in (
                *folder.glob("studies/*"),
                *folder.glob("examples/*"),
                *folder.glob("*.db"),
            ):
                link = whole / path.relative_to(folder)
                link.parent.mkdir(exist_ok=True)
                if not link.exists():
                    link.symlink_to(path.resolve())
        yield whole


def _behind(run: RunDir) -> tuple[int, int, int]:
    """Return how far a run is behind, by its state, its steps and its results under conditions."""
    status = run.status()
    conditions = len([*run.path.glob("robustness/*/*.parquet")])
    return FURTHEST.index(status.state), -status.step, -conditions
