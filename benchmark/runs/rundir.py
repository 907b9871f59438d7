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

A file that is written again is written under another name and then renamed, so a reader never sees
half of it. Reading needs no torch.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from benchmark.base.errors import Busy, UserError, WorldError, choose
from benchmark.base.files import atomic_write, load_yaml, read_model
from benchmark.base.locks import is_locked, locked
from benchmark.runs import integrity
from benchmark.runs.spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

HEARTBEAT_SECONDS = 10
SYSTEM_METRICS = "system.jsonl"
ANEW = "delete the folder and start the run again"
SPEC_REMEDY = f"plan the run again, which writes it anew, or {ANEW}"
STALE_SECONDS = 120  # A running run whose heartbeat is older than this is taken for dead.

State = Literal["planned", "running", "done", "failed", "pruned", "damaged"]
Kind = Literal["trained", "predictions"]


class RunStatus(BaseModel):
    """How far a run is.

    Attributes:
        state: how far the run is. An interrupted run is `planned`, too, and goes on from its
            resume point. A `damaged` one counts nowhere, and is made again by whatever runs it.
        heartbeat: when the status was written, in seconds since 1970.
        step: the number of optimizer steps that are done.
        steps: the number of all optimizer steps, or 0 where it is not known yet.
        epoch: the epoch that was begun last.
        best: the selection metric at the best epoch so far, as a fraction. It is None before the
            first evaluation.
        message: what the run is doing.
        reason: why the run failed, or what of it is damaged.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: State = "planned"
    heartbeat: float = 0.0
    step: int = 0
    steps: int = 0
    epoch: int = 0
    best: float | None = None
    message: str = ""
    reason: str = ""

    @property
    def progress(self) -> dict[str, Any]:
        """The fields that outlive a change of state: the steps and the best value."""
        return {name: value for name in ("step", "steps", "best") if (value := getattr(self, name))}


class RunDir:
    """One run directory. It validates each file when it reads it.

    Attributes:
        path: the folder, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def key(self) -> str:
        """The run key, which is the folder's name."""
        return self.path.name

    # --- the spec ---------------------------------------------------------------------

    def create(self, spec: RunSpec) -> None:
        """Write the spec and a `planned` status unless they are there.

        A spec that is damaged is written again.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        try:
            is_there = self.spec().key == self.key
        except UserError:
            is_there = False
        if not is_there:
            text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)
            atomic_write(self.path / "spec.yaml", lambda temporary: temporary.write_text(text))
        if not (self.path / "status.json").exists():
            # Only who holds a run writes its status, and who holds this one has done so.
            with contextlib.suppress(Busy), self.claim():
                if not (self.path / "status.json").exists():
                    self.write_status("planned")

    def spec(self) -> RunSpec:
        """Return the spec of the run.

        Raises:
            UserError: it is missing or damaged.
        """
        try:
            return read_model(RunSpec, self._spec_values(), str(self.path / "spec.yaml"))
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
            self._spec_values().get("kind", "trained"), ("trained", "predictions"), "kind of run"
        )

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

    def damaged(self, name: str, what: str = "", remedy: str = "") -> WorldError:
        """Return the error that says that a file is damaged.

        Args:
            name: the file, relative to the run directory.
            what: what is wrong with it, if that is known.
            remedy: what to do. By default the run is started again, which makes the file anew.
        """
        if not remedy:
            remedy = f"make it again with `risbench resume {self.key} --runs {self.path.parent}`"
            # Without a list of digests, that command does not see what is damaged.
            if not integrity.listed(self.path):
                remedy = f"delete status.json beside it, and {remedy}"
        return WorldError(f"{self.path / name} is damaged{f' ({what})' if what else ''}: {remedy}.")

    # --- JSON files -------------------------------------------------------------------

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write one JSON file, whole or not at all.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        text = json.dumps(content, indent=1) + "\n"
        atomic_write(self.path / name, lambda temporary: temporary.write_text(text))
        integrity.renew(self.path, name)

    def read_json(self, name: str, remedy: str = "") -> dict[str, Any]:
        """Return the content of a JSON file, which is empty where there is no such file.

        Args:
            name: the file, relative to the run directory.
            remedy: what to do where it is damaged, as `damaged` takes it.

        Raises:
            WorldError: the file is damaged.
        """
        try:
            content = json.loads(integrity.read(self.path, name))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise self.damaged(name, remedy=remedy)
        return content

    # --- state ------------------------------------------------------------------------

    def write_status(self, state: State, **more: Any) -> None:
        """Write the status of the run with a new heartbeat.

        Args:
            state: how far the run is.
            more: further fields of `RunStatus`. A field that is not given gets its default.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        self.write_json("status.json", {"state": state, "heartbeat": time.time(), **more})

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
        # A heartbeat may come from another machine, whose lock cannot be seen from here.
        silent = time.time() - status.heartbeat > STALE_SECONDS
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

    # --- metrics ----------------------------------------------------------------------

    def log(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Append one line of metrics.

        Args:
            step: the number of optimizer steps that are done.
            epoch: the epoch that was begun last or, for metrics of val, that was completed last.
            values: metric -> value.

        Raises:
            UserError: the file cannot be written.
        """
        try:
            with (self.path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")
        except OSError as error:
            raise WorldError(
                f"cannot write {self.path / 'metrics.jsonl'} ({error.strerror}): make room."
            ) from None

    def metrics(self) -> list[dict[str, float]]:
        """Return the logged lines, without a last one that a kill cut short.

        Raises:
            WorldError: the file is damaged.
        """
        try:
            text = integrity.read(self.path, "metrics.jsonl").decode()
            # A whole line ends with a line break, so the last part is empty or cut short.
            lines = [json.loads(line) for line in text.split("\n")[:-1]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError):
            lines = [None]
        if not all(isinstance(line, dict) and {"step", "epoch"} <= line.keys() for line in lines):
            raise self.damaged("metrics.jsonl", remedy=ANEW)
        return lines

    def epoch_values(self, split: str, metric: str) -> dict[int, float]:
        """Return evaluated epoch -> the logged value of a metric of `split`."""
        name = f"{split}/{metric}"
        return {line["epoch"]: line[name] for line in self.metrics() if name in line}

    def keep_metrics(self, lines: int) -> None:
        """Keep the first `lines` lines, which the resume point knows.

        The run is about to make the other lines again.
        """
        text = "".join(json.dumps(line) + "\n" for line in self.metrics()[:lines])
        atomic_write(self.path / "metrics.jsonl", lambda temporary: temporary.write_text(text))

    # --- records ----------------------------------------------------------------------

    def write_records(self, split: str, records: pd.DataFrame) -> None:
        """Write the records of one split, one row for each expression.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        path = self.path / "records" / f"{split}.parquet"
        atomic_write(path, lambda temporary: records.to_parquet(temporary, index=False))
        integrity.renew(self.path, f"records/{split}.parquet")

    def records(self, split: str) -> pd.DataFrame:
        """Return the records of one split, one row for each expression.

        Raises:
            UserError: there are none, or the file is damaged.
        """
        # The import takes a second, for which `status` need not wait.
        from pyarrow import BufferReader
        from pyarrow.parquet import ParquetFile

        path = self.path / "records" / f"{split}.parquet"
        try:
            content = integrity.read(self.path, f"records/{split}.parquet")
            # Tables of this size are read fastest by one thread and without pandas' detours.
            return (
                ParquetFile(BufferReader(content))
                .read(use_threads=False)
                .to_pandas(use_threads=False)
            )
        except FileNotFoundError:
            raise UserError(f"run {self.key} has no records of split '{split}' ({path}).") from None
        except (OSError, ValueError):
            raise self.damaged(f"records/{split}.parquet") from None

    # --- masks ------------------------------------------------------------------------

    def masks_path(self, split: str) -> Path:
        """Return where the predicted masks of a split lie. Old runs have none."""
        return self.path / "masks" / f"{split}.parquet"

    def write_masks(self, split: str, masks: pd.DataFrame) -> None:
        """Write the predicted masks of one split, one row for each expression.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        atomic_write(
            self.masks_path(split),
            lambda temporary: masks.to_parquet(temporary, index=False, compression="zstd"),
        )
        integrity.renew(self.path, f"masks/{split}.parquet")

    def masks(self, split: str, sent_ids: Iterable[int] | None = None) -> pd.DataFrame:
        """Return the predicted masks of one split, one row for each expression.

        Args:
            split: name of a reported split.
            sent_ids: the expressions whose masks are read. By default they are all.

        Raises:
            UserError: there are none, or the file is damaged.
        """
        import pandas as pd

        chosen = None if sent_ids is None else [("sent_id", "in", [*sent_ids])]
        path = self.masks_path(split)
        try:
            if integrity.changed(self.path, [f"masks/{split}.parquet"]):
                raise ValueError
            return pd.read_parquet(path, filters=chosen)
        except FileNotFoundError:
            raise UserError(
                f"run {self.key} has no masks of split '{split}', as it was made before masks were"
                f" stored: make them with `risbench predict {self.key} --split {split}`."
            ) from None
        except (OSError, ValueError):
            raise UserError(
                f"{path} is damaged: delete it, and make it again with `risbench predict"
                f" {self.key} --split {split}`."
            ) from None


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
