"""Runs parts with the code of this checkout and of an older commit, each in a process of its own.

The older code lies in a temporary folder, which `git archive` fills. Both are measured by the
modules of this checkout's `tests/speed`, as long as the older code has what they call.
"""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import methods
from benchmark.base.errors import UserError
from tests.speed.parts import RUN, Part, preset, preset_file

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 900.0  # after which a process has failed
COSTS = ("costs.json", "timing.json")  # what a run says of its times, and said once
# What would let a child find other runs, data or plugins than those that are prepared for it.
FOREIGN = ("RISBENCH_RUNS", "RISBENCH_PLUGINS", "RISBENCH_CLAIMS", "MLFLOW_TRACKING_URI")


class Failed(Exception):
    """A part cannot be measured. The message says why."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One measurement.

    Attributes:
        cpu: seconds of the processor, in the kernel and outside, of a process and its children, or
            None where only the other was taken.
        wall: seconds that passed, or None where only the other was taken.
    """

    cpu: float | None
    wall: float | None


@dataclasses.dataclass
class Tree:
    """The code of one state.

    Attributes:
        name: what messages call it.
        paths: where Python looks for its modules, in turns that are tried one after the other.
        folder: for what is prepared.
    """

    name: str
    paths: Sequence[Sequence[Path]]
    folder: Path
    _prepared: dict[tuple[str, ...], Path | Failed] = dataclasses.field(default_factory=dict)

    def measure(self, part: Part) -> dict[str, Sample]:
        """Measure a part once.

        Returns:
            Label -> what was measured.

        Raises:
            Failed: the code of this state cannot do it.
        """
        folder = self._prepare(part.prepared)
        if part.fresh:
            with tempfile.TemporaryDirectory(dir=self.folder) as copy:
                shutil.copytree(folder, copy, dirs_exist_ok=True)
                return self._measured(part, Path(copy))
        return self._measured(part, folder)

    def _measured(self, part: Part, folder: Path) -> dict[str, Sample]:
        output, sample = self._call(_with_run(part.arguments, folder), folder)
        if not part.inner:
            return {part.label: sample, **(_own_costs(folder, part) if part.costs else {})}
        rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return {
            " ".join(filter(None, (row.get("method"), row.get("variant"), row["part"]))): Sample(
                row["median"], None
            )
            for row in rows
        }

    def _prepare(self, arguments: tuple[str, ...]) -> Path:
        """Return the folder that a command has filled. It is filled once."""
        if arguments not in self._prepared:
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            for name in methods.names():
                (folder / preset_file(name)).write_text(preset(name), encoding="utf-8")
            self._prepared[arguments] = folder
            if arguments:
                try:
                    self._call(arguments, folder)
                except Failed as reason:
                    self._prepared[arguments] = reason
        found = self._prepared[arguments]
        if isinstance(found, Failed):
            raise found
        return found

    def _call(self, arguments: Sequence[str], folder: Path) -> tuple[str, Sample]:
        """Run Python, with the first modules that do it. The first ones say why none do."""
        reasons = []
        for paths in self.paths:
            try:
                return execute([sys.executable, *arguments], folder, self._environment(paths))
            except Failed as reason:
                reasons.append(reason)
                # The same command of the suite would fail again.
                if not arguments[1].startswith("tests."):
                    break
        raise reasons[0]

    def _environment(self, paths: Sequence[Path]) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        return {
            **own,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
            "HF_HUB_OFFLINE": "1",
        }


def _with_run(arguments: Sequence[str], folder: Path) -> list[str]:
    """Return arguments in which the key of the folder's only run stands."""
    if RUN not in arguments:
        return [*arguments]
    (spec,) = folder.glob("runs/*/spec.yaml")
    return [spec.parent.name if its == RUN else its for its in arguments]


def _own_costs(folder: Path, part: Part) -> dict[str, Sample]:
    """Return the times that the folder's runs have measured themselves, in every version."""
    costs = [
        json.loads(path.read_text(encoding="utf-8"))
        for name in COSTS
        for path in folder.glob(f"runs/*/{name}")
    ]
    return {
        f"{part.label}: its {kind}": Sample(None, sum(its[f"{kind}_seconds"] for its in costs))
        for kind in ("training", "evaluation")
    }


def execute(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> tuple[str, Sample]:
    """Run a command to its end.

    Args:
        command: what is run.
        folder: where it is run.
        environment: its variables.

    Returns:
        What it printed, and what it took with all its children.

    Raises:
        Failed: it did not end well. The message has the last line that it printed as an error.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,  # so that its children can be ended with it
        )
        timer = threading.Timer(MOST_SECONDS, _end, [child])
        timer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            timer.cancel()
            _end(child)
            if child.returncode is None:
                child.wait()
        wall = time.perf_counter() - started
        output.seek(0)
        errors.seek(0)
        said = output.read().decode(errors="replace")
        if child.returncode:
            lines = [
                *filter(None, map(str.strip, errors.read().decode(errors="replace").split("\n")))
            ]
            raise Failed(lines[-1] if lines else f"it ended with {child.returncode}")
    return said, Sample(usage.ru_utime + usage.ru_stime, wall)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process and its children, as far as there are some left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def commit_of(name: str) -> str:
    """Return the full name of a commit of this checkout.

    Raises:
        UserError: there is none.
    """
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode:
        raise UserError(f"there is no commit '{name}' here: name one that `git log` lists.")
    return found.stdout.decode().strip()


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True)


@contextlib.contextmanager
def two_trees(commit: str) -> Iterator[tuple[Tree, Tree]]:
    """Check out a commit beside this checkout, and yield both. Nothing of it is left in the end.

    Args:
        commit: full name of the older one.

    Raises:
        UserError: the commit is older than the package that is measured.
    """
    with tempfile.TemporaryDirectory(prefix="speed-") as name:
        folder = Path(name)
        roots = {"older": folder / "code", "this": ROOT}
        _check_out(commit, roots["older"])
        modules = folder / "modules"
        ignored = shutil.ignore_patterns("__pycache__", "test_*")
        shutil.copytree(ROOT / "tests" / "speed", modules / "tests" / "speed", ignore=ignored)
        (modules / "tests" / "__init__.py").touch()
        trees = []
        for name, root in roots.items():
            (folder / name).mkdir()
            trees.append(Tree(name, [(modules, root), (root,)], folder / name))
            # Code that is compiled before the measurement is no part of it.
            compiling = [
                sys.executable,
                "-m",
                "compileall",
                "-q",
                "benchmark",
                "methods",
                "reports",
            ]
            subprocess.run(compiling, cwd=root, stdout=subprocess.DEVNULL)
        yield trees[0], trees[1]


@contextlib.contextmanager
def limited(cores: int) -> Iterator[None]:
    """Let the processes that are started meanwhile use some cores alone.

    Raises:
        UserError: there are fewer cores.
    """
    own = os.sched_getaffinity(0)
    if cores > len(own):
        raise UserError(f"this process may use {len(own)} cores, not {cores}: change --cores.")
    # Processes inherit the cores of the thread that starts them.
    os.sched_setaffinity(0, sorted(own)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def _check_out(commit: str, folder: Path) -> None:
    """Write the files of a commit into a new folder."""
    archive = _git("archive", "--format=tar", commit).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    if not (folder / "benchmark" / "__init__.py").exists():
        raise UserError(f"{commit} has no package `benchmark`: name a later commit.")
