"""Takes run directories out of archives, which somebody else may have made.

Nothing of an archive is trusted. It is read whole and checked before anything of it is seen, laid
out aside, and each run enters the folder of runs by one renaming. An interrupted unpacking is
completed by the next one.
"""

import dataclasses
import filecmp
import gzip
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from benchmark.base.errors import UserError, WorldError
from benchmark.base.locks import locked
from benchmark.runs import integrity
from benchmark.runs.rundir import RunDir

LOCK = ".unpack.lock"
ASIDE = ".unpack"  # in the folder of runs, so that a renaming moves what lies in it
# What lies beside the runs. Each part of such a folder stands for itself, as a run does.
FOLDERS = ("groups", "studies", "examples")
FILES = ("optuna.db",)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
# Tables and pictures are compressed already, and text shrinks to a tenth.
MOST_GROWTH = 100
ALWAYS_ROOM = 2**28  # bytes that any archive may hold
HEADER = 2**20  # bytes that a member's own description may take, and the end of an archive


@dataclasses.dataclass
class Unpacked:
    """What became of archives.

    Attributes:
        new: number of runs that were not there before.
        same: number of runs that were there already, with nothing that differs.
        kept: what was there already with other content, which was kept as it is.
    """

    new: int = 0
    same: int = 0
    kept: list[str] = dataclasses.field(default_factory=list)


def unpack(archives: Sequence[Path], runs: Path) -> Unpacked:
    """Unpack archives into a folder of runs.

    A run that is there already is compared and kept. If nothing of it differs, it gets what it
    lacks, such as results under conditions that lie in another archive.

    Args:
        archives: what `pack` wrote. The parts of one run may be spread over several of them.
        runs: the folder of the run directories, which is made where it is missing.

    Raises:
        UserError: an archive is missing or damaged, holds anything but files and folders, a name
            that leads out of the folder, more than its size allows, or a run that is not what its
            key says. Nothing is unpacked then.
        WorldError: the disk is full or the folder cannot be written. The same call completes what
            was begun.
    """
    with locked(runs / LOCK):
        aside = runs / ASIDE
        shutil.rmtree(aside, ignore_errors=True)  # of an unpacking that was killed
        try:
            for path in archives:
                _lay_out(path, aside)
            parts = [*_parts(aside)]
            for part in parts:
                if part.parent == aside and part.name not in FILES:
                    _check_run(part, runs / part.name)
            return _moved(parts, aside, runs)
        except OSError as error:
            raise WorldError(
                f"the archives cannot be unpacked into {runs} ({error.strerror}): make room or"
                " choose another --runs folder, and unpack them again."
            ) from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)


# --- reading --------------------------------------------------------------------------------------


class _Bounded:
    """A stream that ends in an error when more is read of it than is allowed.

    Args:
        stream: the stream.

    Attributes:
        left: bytes that may still be read.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.left = HEADER

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`.

        Raises:
            tarfile.ReadError: they are more than is allowed.
        """
        content = self.stream.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise tarfile.ReadError("a description of a file is far too large")
        return content


def _lay_out(path: Path, aside: Path) -> None:
    """Write what an archive holds into a folder.

    Raises:
        UserError: as `unpack` says of archives.
    """
    if not path.is_file():
        raise UserError(f"there is no archive {path}: name a file that `risbench pack` wrote.")
    room = max(ALWAYS_ROOM, MOST_GROWTH * path.stat().st_size)
    try:
        with gzip.open(path) as whole:
            stream = _Bounded(whole)
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    room -= member.size
                    if room < 0:
                        raise UserError(
                            f"{path} would take far more room than archives of its size do:"
                            " nothing of it is unpacked."
                        )
                    target = aside / _name(member, path)
                    if member.isfile():
                        stream.left += member.size
                        _write(archive.extractfile(member), target)
                    stream.left = max(stream.left, HEADER)
            # The checksum of all stands at the end.
            while stream.read(HEADER):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
        raise UserError(
            f"{path} is no archive of `risbench pack`, or it is damaged ({error}): get it again."
        ) from None


def _name(member: tarfile.TarInfo, path: Path) -> str:
    """Return the path of a member, which is a file or a folder and leads nowhere else.

    Raises:
        UserError: it is something else.
    """
    said = repr(member.name[:80])
    if member.issparse() or not (member.isfile() or member.isdir()):
        raise UserError(
            f"{path} holds {said}, which is neither a file nor a folder: nothing of it is unpacked."
        )
    parts = PurePosixPath(member.name).parts
    if not parts or not all(NAME.fullmatch(part) for part in parts):
        raise UserError(
            f"{path} holds the name {said}, which none of the suite's files has: nothing of it is"
            " unpacked."
        )
    return member.name


def _write(source: IO[bytes], target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(source, file)
    except FileExistsError:
        raise UserError(f"{target} is a folder and a file in the same archive.") from None


# --- checking -------------------------------------------------------------------------------------


def _parts(aside: Path) -> Iterator[Path]:
    """Yield runs, groups, studies and examples, each of which is moved by itself."""
    if not aside.exists():
        return
    for path in sorted(aside.iterdir()):
        if path.name in FOLDERS and path.is_dir():
            yield from sorted(path.iterdir())
        else:
            yield path


def _check_run(part: Path, there: Path) -> None:
    """Check that a part is a run, whole, and the one that its key says.

    Args:
        part: the run, or a part of it whose rest is in the folder of runs.
        there: the run in that folder, which may be missing.

    Raises:
        UserError: it is not so. The message names what is wrong.
    """
    run = RunDir(part)
    if not (part / "spec.yaml").is_file():
        if (there / "spec.yaml").is_file():
            return
        raise UserError(
            f"the archives hold '{part.name}', which is no run: unpack all archives of a `risbench"
            " pack` together."
        )
    spec = run.any_spec()
    if spec.key != part.name:
        raise UserError(
            f"the archives hold a run {part.name} whose spec is that of {spec.key}: get them again."
        )
    if run.recorded_status().state == "done":
        needed = ["result.json", *(f"records/{split}.parquet" for split in spec.selection.report)]
        if missing := [name for name in needed if not (part / name).is_file()]:
            raise UserError(
                f"the archives hold a finished run {part.name} without {missing[0]}: get them"
                " again."
            )
        if name := integrity.changed(part, (*integrity.PATTERNS, integrity.LATER)):
            raise UserError(
                f"the archives hold a finished run {part.name} whose {name} is not what was packed:"
                " get them again."
            )


# --- moving ---------------------------------------------------------------------------------------


def _moved(parts: Sequence[Path], aside: Path, runs: Path) -> Unpacked:
    """Move parts into the folder of runs, and return what became of them."""
    result = Unpacked()
    for part in parts:
        target = runs / part.relative_to(aside)
        is_run = part.parent == aside and part.name not in FILES
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            part.rename(target)
            result.new += is_run
        elif _differ(part, target):
            result.kept.append(str(target.relative_to(runs)))
        else:
            # What was packed at another time has a list of other results.
            integrity.join(target, integrity.listed(part))
            for path in _files(part):
                if not (own := target / path.relative_to(part)).exists():
                    own.parent.mkdir(parents=True, exist_ok=True)
                    path.rename(own)
            result.same += is_run
    return result


def _differ(part: Path, target: Path) -> bool:
    """Return whether a file of a part has another content in the folder of runs."""
    for path in _files(part):
        own = target / path.relative_to(part)
        if path.name == integrity.FILE:
            continue
        if own.exists() and not (own.is_file() and filecmp.cmp(path, own, shallow=False)):
            return True
    return False


def _files(part: Path) -> list[Path]:
    """Return the files of a part, which is a folder or a file itself."""
    return [part] if part.is_file() else sorted(its for its in part.rglob("*") if its.is_file())
