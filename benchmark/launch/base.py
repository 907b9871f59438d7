"""The contract of a launcher, and the jobs, resources and records that it works with."""

import abc
import dataclasses
import enum
import json
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write

JOB_FILE = "job.json"
STOPPED = 130  # The exit code of a process that was asked to stop and saved its state.


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a job needs of a machine.

    Attributes:
        gpus: 0 for none, a fraction of one card (such as 1/3), or a number of whole cards.
        memory_gib: main memory in GiB, or None for as much as the launcher gives.
        hours: the longest time that the job may take, in hours, or None for as long as the
            launcher allows.
        threads: the number of CPU cores.

    Raises:
        UserError: `gpus` is negative, or neither whole nor a share of one card.
    """

    gpus: float = 0
    memory_gib: float | None = None
    hours: float | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.gpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise UserError(
                f"a job cannot have {self.gpus} GPUs: ask for a share of one or for a whole number."
            )


@dataclasses.dataclass(frozen=True)
class Job:
    """One command that a launcher starts when its turn has come.

    Attributes:
        name: the name that people read. Jobs that are submitted together have different names.
        command: the program and its arguments.
        log: the file to which its output is appended.
        environment: variables beyond those of the process that submits the job.
        resources: what the job needs of a machine.
        after: ids or names of jobs that it needs. It starts when all of these have ended with exit
            code 0, and never otherwise.
        folder: the folder whose `job.json` keeps its id, from which another process can find it.
        makes: the files that the job makes one after the other, where these say how far it is.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    resources: Resources = Resources()
    after: tuple[str, ...] = ()
    folder: Path | None = None
    makes: tuple[Path, ...] = ()


class State(enum.StrEnum):
    """How far a job is. Those after `RUNNING` are final."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"
    NOT_STARTED = "not started"
    UNKNOWN = "unknown"  # The launcher has lost the job, or cannot see it from this machine.


@dataclasses.dataclass(frozen=True)
class JobStatus:
    """How a job stands.

    Attributes:
        state: how far the job is.
        code: the exit code of a job that has ended. It is negative where a signal killed the job,
            and None where nobody saw it.
        reason: why the job was not started or is unknown.
        asked: whether the job was asked to stop.
    """

    state: State
    code: int | None = None
    reason: str = ""
    asked: bool = False

    @property
    def over(self) -> bool:
        """Whether the status is final."""
        return self.state not in (State.WAITING, State.RUNNING)

    @property
    def succeeded(self) -> bool:
        """Whether the job ended with exit code 0."""
        return self.state == State.ENDED and self.code == 0

    @property
    def stopped(self) -> bool:
        """Whether the job ended, or never began, because it was asked to stop."""
        if self.state == State.NOT_STARTED:
            return self.asked
        # A job that is asked while it still imports dies of the interrupt and has nothing to save.
        return self.code == STOPPED or (self.asked and self.code == -signal.SIGINT)

    @property
    def words(self) -> str:
        """What became of the job, as the rest of a sentence that begins with its name."""
        if self.state == State.NOT_STARTED:
            return f"was not started ({self.reason})"
        if self.state != State.ENDED:
            return f"is {self.state}" + (f" ({self.reason})" if self.reason else "")
        if self.stopped:
            return "was stopped"
        if self.code is None:
            return "ended, and nobody saw its exit code"
        if self.code < 0:
            return f"was killed by signal {-self.code}" + (
                " (out of memory?)" if self.code == -signal.SIGKILL else ""
            )
        return f"ended with exit code {self.code}"


@dataclasses.dataclass(frozen=True)
class JobRecord:
    """What `job.json` keeps of a job.

    Attributes:
        folder: the folder of the file.
        launcher: the registered name of the launcher.
        id: the id under which the launcher knows the job.
        name: the name of the job.
        submitted: when the job was submitted, in seconds since 1970.
        details: what else the launcher has to remember.
    """

    folder: Path
    launcher: str
    id: str
    name: str
    submitted: float = dataclasses.field(default_factory=time.time)
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def write(self, **details: Any) -> "JobRecord":
        """Add `details` to the record, write the file, and return the new record.

        Raises:
            UserError: the file cannot be written.
        """
        record = dataclasses.replace(self, details={**self.details, **details})
        values = {
            field: getattr(record, field) for field in ("launcher", "id", "name", "submitted")
        }
        text = json.dumps(values | record.details, indent=1) + "\n"
        atomic_write(self.folder / JOB_FILE, lambda temporary: temporary.write_text(text))
        return record


def read_job(folder: Path) -> JobRecord | None:
    """Return the record of the job in `folder`, or None where no job was submitted for it.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / JOB_FILE
    try:
        values = json.loads(path.read_text())
        names = ("launcher", "id", "name", "submitted")
        return JobRecord(folder, *(values.pop(name) for name in names), details=values)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged: delete it and start the same command again.") from None


class Launcher(abc.ABC):
    """Starts jobs, a few at a time. A job that fails never stops the others.

    Its constructor takes the keyword `slots`. Whatever else it takes has a default.

    Attributes:
        name: the registered name.
        outlives: whether jobs go on, and waiting ones still start, when the process that submitted
            them is gone.
        slots: how many jobs may run at a time.
        gpus: how many GPUs it can hand out at a time, or None where that is not known, as on a
            cluster.
    """

    name: str
    outlives: bool
    slots: int
    gpus: int | None

    @abc.abstractmethod
    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """Accept jobs and return their ids, in the same order.

        Raises:
            UserError: a job needs one that is not known, jobs need each other in a circle, or one
                asks for more than there will ever be. None of the jobs is accepted then.
        """

    @abc.abstractmethod
    def poll(self, ids: Sequence[str]) -> dict[str, JobStatus]:
        """Return the status of jobs, by id.

        A launcher that starts its jobs itself starts them here.
        """

    @abc.abstractmethod
    def stop(self, ids: Sequence[str]) -> None:
        """Ask each running job once (SIGINT) to save its state, and start no waiting one."""

    def close(self) -> None:  # noqa: B027
        """Give back what only further jobs would need. It is called when all jobs are over."""

    @abc.abstractmethod
    def adopt(self, record: JobRecord) -> None:
        """Let `poll` and `stop` know a job of another process.

        Args:
            record: the record of the job, as `read_job` returns it.
        """
