"""Archives hold run directories without weights and resume points, so they are small to carry."""

import tarfile
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write
from benchmark.runs.rundir import RunDir, all_runs

# Weights are large, and a lock or a job means nothing on another machine.
LEFT_OUT = {"state", "best.safetensors", "job.json", "pseudo_masks"}


def packed_files(run: RunDir) -> list[Path]:
    """Return the files of a run directory that travel.

    These are all but those in `LEFT_OUT`, hidden ones (which a killed writer left), and links.
    """
    files = [path for path in sorted(run.path.rglob("[!.]*")) if path.is_file()]
    return [
        path
        for path in files
        if path.relative_to(run.path).parts[0] not in LEFT_OUT and not path.is_symlink()
    ]


def pack(runs: Path, out: Path, limit: int) -> list[Path]:
    """Write all runs under `runs` into `out`/runs-00.tar.gz, runs-01.tar.gz and so on.

    A run's records under conditions may be spread over several archives. The rest of it stays
    together.

    Args:
        runs: the folder of the run directories.
        out: the folder of the archives.
        limit: the largest size of an archive before compression, in bytes.

    Returns:
        The paths of the archives.

    Raises:
        UserError: there are no runs, one alone is too large, or `out` cannot be written.
    """
    archives: list[list[Path]] = [[]]
    room = limit
    # Plans and studies travel, too. The trials of a search do unless their database is elsewhere.
    groups = sorted(
        path
        for name in ("groups/*.json", "studies/*/study.yaml", "optuna.db")
        for path in runs.glob(name)
    )
    examples = [sorted(folder.glob("[!.]*")) for folder in sorted(runs.glob("examples/*/"))]
    every = [packed_files(run) for run in all_runs(runs)]
    whole = [[path for path in files if not _under_condition(path, runs)] for files in every]
    spread = [[path] for files in every for path in files if _under_condition(path, runs)]
    for files in [groups, *examples, *whole, *spread]:
        # A tar archive gives each file a header of 512 bytes and fills its last block of 512.
        size = sum(path.stat().st_size + 1024 for path in files)
        if size > limit:
            raise UserError(
                f"{files[0].parent} alone has {size / 2**20:.1f} MiB: allow more with --megabytes."
            )
        if size > room:
            archives.append([])
            room = limit
        archives[-1] += files
        room -= size
    if not any(archives):
        raise UserError(
            f"there are no runs in {runs}: name the folder that holds some with --runs."
        )
    written = []
    for number, files in enumerate(archives):
        path = out / f"runs-{number:02}.tar.gz"

        # The default binds the files of this archive and not those of the last one.
        def write(temporary: Path, files: list[Path] = files) -> None:
            with tarfile.open(temporary, "w:gz") as archive:
                for file in files:
                    archive.add(file, file.relative_to(runs))

        atomic_write(path, write)
        written.append(path)
    return written


def _under_condition(path: Path, runs: Path) -> bool:
    return path.relative_to(runs).parts[1] == "robustness"
