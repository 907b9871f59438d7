"""The run directory is the truth about one run, from which tables and tracking stores are made.

    runs/<key>/spec.yaml            the scientific configuration
               environment.json     git commit, package versions, device, numerics, data digest
               status.json          state with a heartbeat, and the reason where a run failed
               job.json             the launcher's job that works on it
               system.jsonl     state of GPU and machine every ten seconds, of runs on a GPU
               metrics.jsonl        one line per logged step, without timings
               state/latest.pt      resume point (see `training.resume_point`), until it is done
               best.safetensors     weights of the chosen epoch
               records/<split>.parquet   one row per referring expression
               masks/<split>.parquet     the mask of every expression (see `evaluation.masks`)
               text_blind/<split>.json   mIoU without the sentence (see
                                    `evaluation.text_blind_scores`), of weakly supervised runs
               images/              a few validation overlays
               result.json          final numbers of every reported split
               costs.json           size, speed, memory and time (see `runs.costs`)
               files.json           digests of a finished run's files (see `runs.integrity`)

`run_files` reads and writes them, and this module has what a run is beside its files: its spec, its
state and who holds it.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from benchmark.base.errors import Busy, UserError, WorldError, choose
from benchmark.base.files import atomic_write, load_yaml, read_model
from benchmark.base.locks import is_locked, locked
from benchmark.runs import integrity
from benchmark.runs.predictions import KIND, AnySpec, PredictionsSpec
from benchmark.runs.run_files import ANEW, RunFiles
from benchmark.runs.spec import RunSpec
from benchmark.runs.status import RunStatus, State

SYSTEM_METRICS = "system.jsonl"
SPEC_REMEDY = f"plan the run again, which writes it anew, or {ANEW}"
SCORE_AGAIN = "score the same predictions again with `risbench score`, which writes it anew"
STALE_SECONDS = 120  # A run of another machine is taken for dead when its heartbeat is older.

Kind = Literal["trained", "predictions"]


class RunDir(RunFiles):
    """One run directory.

    Attributes:
        path: the folder, which need not exist yet.
    """

    # --- the spec ---------------------------------------------------------------------

    def create(self, spec: AnySpec) -> None:
        """Write the spec and a `planned` status unless they are there.

        A spec that is damaged is written again.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        try:
            is_there = self.any_spec().key == self.key
        except UserError:
            is_there = False
        if not is_there:
            self.write_spec(spec)
        if not (self.path / "status.json").exists():
            # Only who holds a run writes its status, and who holds this one has done so.
            with contextlib.suppress(Busy), self.claim():
                if not (self.path / "status.json").exists():
                    self.write_status("planned")

    def write_spec(self, spec: AnySpec) -> None:
        """Write the spec, in place of the one that is there.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)
        atomic_write(self.path / "spec.yaml", lambda temporary: temporary.write_text(text))
        integrity.renew(self.path, "spec.yaml")

    def spec(self) -> RunSpec:
        """Return the spec of a run that is trained here.

        Raises:
            UserError: it is missing or damaged, or the run has predictions alone.
        """
        spec = self.any_spec()
        if isinstance(spec, PredictionsSpec):
            raise UserError(
                f"{self.key} holds masks that were made elsewhere, and no network that could do"
                " this: name a run that is trained here."
            )
        return spec

    def any_spec(self) -> AnySpec:
        """Return the spec of the run, of whatever kind it is.

        Raises:
            UserError: it is missing or damaged.
        """
        values = self._spec_values()
        model = PredictionsSpec if values.get("kind") == KIND else RunSpec
        try:
            return read_model(model, values, str(self.path / "spec.yaml"))
        except (KeyError, TypeError, ValueError):
            raise self.damaged("spec.yaml", remedy=SPEC_REMEDY) from None

    @property
    def kind(self) -> Kind:
        """`trained`, or `predictions` where somebody else made the masks.

        The spec of a run with predictions says so, and the spec of a trained run says nothing.

        Raises:
            UserError: the spec is missing or damaged, or names another kind.
        """
        return choose(
            str(self._spec_values().get("kind", "trained")), ("trained", KIND), "kind of run"
        )

    def damaged(self, name: str, what: str = "", remedy: str = "") -> WorldError:
        """Return the error that says that a file is damaged (see `RunFiles.damaged`)."""
        if not remedy:
            with contextlib.suppress(UserError):
                remedy = SCORE_AGAIN if self.kind == KIND else ""
        return super().damaged(name, what, remedy)

    def _spec_values(self) -> dict[str, Any]:
        try:
            values = load_yaml(integrity.read(self.path, "spec.yaml").decode())
        except FileNotFoundError:
            raise UserError(f"{self.path} is no run directory: it has no spec.yaml.") from None
        except (yaml.YAMLError, ValueError, OSError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise self.damaged("spec.yaml", remedy=SPEC_REMEDY)
        return values

    # --- state ------------------------------------------------------------------------

    def write_status(self, state: State, **more: Any) -> None:
        """Write the status of the run with a new heartbeat.

        Args:
            state: how far the run is.
            more: further fields of `RunStatus`. A field that is not given gets its default.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        now = {"state": state, "heartbeat": time.time(), "host": socket.gethostname()}
        self.write_json("status.json", now | more)

    def recorded_status(self) -> RunStatus:
        """Return the status as it was last written.

        Raises:
            UserError: the file is damaged.
        """
        try:
            return RunStatus.model_validate(self.read_json("status.json"))
        except ValidationError:
            raise self.damaged("status.json") from None

    def status(self) -> RunStatus:
        """Return the status of the run.

        A `running` run whose process is gone reads as `planned`, since it will be resumed. Where
        the file is damaged, so is the run.
        """
        try:
            status = self.recorded_status()
        except WorldError as error:
            return RunStatus(state="damaged", reason=str(error))
        # The lock of another machine cannot be seen from here, so its heartbeat is waited for.
        here = status.host == socket.gethostname()
        silent = here or time.time() - status.heartbeat > STALE_SECONDS
        if status.state == "running" and silent and not self.claimed():
            return status.model_copy(update={"state": "planned"})
        return status

    def checked_status(self, patterns: Iterable[str] = integrity.SMALL) -> RunStatus:
        """Return the status of the run after a look at its files, if it is done.

        Args:
            patterns: which files are compared with the list of digests.
        """
        status = self.status()
        if status.state != "done":
            return status
        try:
            if name := integrity.changed(self.path, patterns):
                raise self.damaged(name, remedy=SPEC_REMEDY if name == "spec.yaml" else "")
            if not integrity.listed(self.path):
                for name in ("result.json", "environment.json"):
                    self.read_json(name)
        except WorldError as error:
            return RunStatus(state="damaged", reason=str(error))
        return status

    def fail(self, reason: str) -> None:
        """Mark the run, which the caller holds, as failed.

        The next command that plans it tries it again.

        Args:
            reason: one sentence that says why it failed.
        """
        status = self.status()
        self.write_status("failed", reason=reason, step=status.step, steps=status.steps)

    @contextlib.contextmanager
    def claim(self, tell: Callable[[str], None] | None = None) -> Iterator[None]:
        """Hold the run while it is worked on. The lock ends with its process.

        Args:
            tell: takes a message where another process holds the run, before the call waits for
                that process. With None it does not wait.

        Raises:
            Busy: another process holds the run, and there is no `tell`.
        """
        busy = f"run {self.key} is being worked on by another process: wait for it."
        with locked(self.path / ".lock", busy, tell):
            yield

    def claimed(self) -> bool:
        """Return whether a living process on this machine holds the run."""
        return is_locked(self.path / ".lock")


def all_runs(runs: Path) -> list[RunDir]:
    """Return every run directory under `runs`, in the order of keys."""
    return [RunDir(path.parent) for path in sorted(runs.glob("*/spec.yaml"))]


def find_run(runs: Path, name: str) -> RunDir:
    """Return the run that `name` names.

    Args:
        runs: the folder of the run directories.
        name: a key, the unique beginning of one, or the path of a run directory.

    Raises:
        UserError: no run or several fit. The message lists the nearest ones.
    """
    if (Path(name) / "spec.yaml").exists():
        return RunDir(Path(name).resolve())
    keys = [run.key for run in all_runs(runs)]
    if not keys:
        raise UserError(
            f"there are no runs in {runs}: start some with `risbench matrix --preset quick`."
        )
    fitting = [key for key in keys if key.startswith(name)]
    if len(fitting) > 1 and name not in fitting:
        raise UserError(
            f"'{name}' fits {len(fitting)} runs ({', '.join(fitting[:4])} ...):"
            " give more of the key."
        )
    return RunDir(runs / (fitting[0] if len(fitting) == 1 else choose(name, keys, "run")))
