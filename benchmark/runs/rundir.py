"""The run directory: the truth about one run, from which tables and MLflow are made.

    runs/<key>/spec.yaml            the scientific configuration
               environment.json     git commit, package versions, device, data digest
               status.json          planned, running (with a heartbeat), done, failed (with a reason), pruned (by a search)
               metrics.jsonl        one line per logged step; timings stay out of it
               state/latest.pt      resume point
               best.safetensors     weights of the chosen epoch
               records/<split>.parquet   one row per referring expression
               images/              a few validation overlays
               result.json          final numbers of every reported split

Whatever is rewritten is written aside and renamed, so a reader never sees half a file.
"""

import contextlib
import fcntl
import json
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from benchmark.base.errors import Busy, UserError, choose
from benchmark.base.files import atomic_write, read_model
from benchmark.runs.spec import RunSpec

HEARTBEAT_SECONDS = 10
STALE_SECONDS = 120  # a running run that was silent for longer is taken for dead


class RunDir:
    """One run directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def key(self) -> str:
        """The run key, which is the folder's name."""
        return self.path.name

    def create(self, spec: RunSpec) -> None:
        """Write the spec and a `planned` status unless they are there."""
        if not (self.path / "spec.yaml").exists():
            text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)
            atomic_write(self.path / "spec.yaml", lambda aside: aside.write_text(text))
        if not (self.path / "status.json").exists():
            self.write_status("planned")

    def spec(self) -> RunSpec:
        """Return the spec.

        Raises:
            UserError: it is missing or damaged.
        """
        path = self.path / "spec.yaml"
        try:
            return read_model(RunSpec, yaml.safe_load(path.read_text()), str(path))
        except FileNotFoundError:
            raise UserError(f"{self.path} is no run directory: it has no spec.yaml.") from None
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
            raise UserError(f"{path} is damaged; delete the folder and run it again.") from None

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write one JSON file, aside and renamed."""
        atomic_write(self.path / name, lambda aside: aside.write_text(json.dumps(content, indent=1) + "\n"))

    def read_json(self, name: str) -> dict[str, Any]:
        """Return a JSON file's content; empty where there is none; a damaged one raises a UserError."""
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return {}
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise UserError(f"{self.path / name} is damaged; delete it and run the same command again.") from None

    def write_status(self, state: str, **more: Any) -> None:
        """Write the state and what belongs to it (reason, step, steps ...)."""
        choose(state, ("planned", "running", "done", "failed", "pruned"), "run state")
        self.write_json("status.json", {"state": state, "heartbeat": time.time(), **more})

    def status(self) -> dict[str, Any]:
        """Return the status; a `running` run without a living heartbeat reads as `planned` (to be resumed)."""
        status = self.read_json("status.json") or {"state": "planned"}
        if status["state"] == "running" and time.time() - status["heartbeat"] > STALE_SECONDS and not self.claimed():
            return {**status, "state": "planned"}
        return status

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the run while it is worked on; the lock dies with its process.

        Raises:
            Busy: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"run {self.key} is being worked on by another process; wait for it.") from None
            yield

    def claimed(self) -> bool:
        """Return whether a living process on this machine holds the run."""
        try:
            with (self.path / ".lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def log(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Append one line of metrics; step counts optimizer steps done, epoch epochs begun or, for val, completed."""
        try:
            with (self.path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path / 'metrics.jsonl'} ({error.strerror}); make room.") from None

    def metrics(self) -> list[dict[str, float]]:
        """Return the logged lines; a last line that a kill cut short is left out."""
        try:
            lines = (self.path / "metrics.jsonl").read_text().split("\n")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines[:-1]]

    def epoch_oious(self, split: str) -> dict[int, float]:
        """Return evaluated epoch -> oIoU of `split`, as logged."""
        return {line["epoch"]: line[f"{split}/oiou"] for line in self.metrics() if f"{split}/oiou" in line}

    def keep_metrics(self, lines: int) -> None:
        """Keep the first `lines` lines: what the resume point knows. The rest is about to be made again."""
        text = "".join(json.dumps(line) + "\n" for line in self.metrics()[:lines])
        atomic_write(self.path / "metrics.jsonl", lambda aside: aside.write_text(text))

    def save_state(self, state: dict[str, Any]) -> None:
        """Write the resume point."""
        atomic_write(self.path / "state" / "latest.pt", lambda aside: torch.save(state, aside))

    def load_state(self) -> dict[str, Any] | None:
        """Return the resume point, or None where there is none yet."""
        path = self.path / "state" / "latest.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
            raise UserError(f"{path} is damaged; delete it and the run starts from its beginning.") from None

    def write_records(self, split: str, records: pd.DataFrame) -> None:
        """Write one split's records."""
        atomic_write(self.path / "records" / f"{split}.parquet", lambda aside: records.to_parquet(aside, index=False))

    def records(self, split: str) -> pd.DataFrame:
        """Return one split's records.

        Raises:
            UserError: there are none, or the file is damaged.
        """
        path = self.path / "records" / f"{split}.parquet"
        try:
            return pd.read_parquet(path)
        except FileNotFoundError:
            raise UserError(f"run {self.key} has no records of split '{split}' ({path}).") from None
        except (OSError, ValueError):
            raise UserError(f"{path} is damaged; delete the run's status.json and run it again.") from None


def all_runs(runs: Path) -> list[RunDir]:
    """Return every run directory under `runs`, by key."""
    return [RunDir(path.parent) for path in sorted(runs.glob("*/spec.yaml"))]


def find_run(runs: Path, name: str) -> RunDir:
    """Return the run called `name`: a key, the unique beginning of one, or a path.

    Raises:
        UserError: none or several fit; the message lists the nearest ones.
    """
    if (Path(name) / "spec.yaml").exists():
        return RunDir(Path(name).resolve())
    keys = [run.key for run in all_runs(runs)]
    if not keys:
        raise UserError(f"there are no runs in {runs}; start some with `risbench matrix --preset quick`.")
    fitting = [key for key in keys if key.startswith(name)]
    if len(fitting) > 1 and name not in fitting:
        raise UserError(f"'{name}' fits {len(fitting)} runs ({', '.join(fitting[:4])} ...); give more of the key.")
    return RunDir(runs / (fitting[0] if len(fitting) == 1 else choose(name, keys, "run")))


def fail(run: RunDir, reason: str) -> None:
    """Mark a run as failed; it is tried again the next time it is asked for."""
    status = run.read_json("status.json")
    run.write_status("failed", reason=reason, step=status.get("step", 0), steps=status.get("steps", 0))
