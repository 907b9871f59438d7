"""The processes and GPUs of this machine.

A job waits in this process until a slot and its GPUs are free, and `poll` starts it. Ids are made
when jobs are submitted. `job.json` also keeps process id and start time, from which other
processes of this machine see whether the job is alive: a process id alone may have been given to
another program since.
"""

import contextlib
import dataclasses
import graphlib
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence

import psutil

from benchmark.base.errors import UserError
from benchmark.launch.base import Job, JobRecord, JobStatus, Launcher, State, read_job
from benchmark.launch.gpus import VISIBLE, Gpus, visible_gpus

GRACE_SECONDS = 120  # for a job that was asked to stop to save its state


@dataclasses.dataclass
class _Submitted:
    """A job of this launcher.

    Attributes:
        id: of the job. needs: ids of the jobs that it comes after. record: what `job.json` keeps
            of it, if anything.
        status: as it was last seen. gpus: cards that it has while it runs.
        asked: when it was asked to stop [monotonic seconds].
    """

    id: str
    job: Job
    needs: tuple[str, ...]
    record: JobRecord | None = None
    status: JobStatus = JobStatus(State.WAITING)
    process: subprocess.Popen | None = None
    gpus: tuple[str, ...] = ()
    asked: float | None = None

    def keep(self, **details: object) -> None:
        """Add to what others can read."""
        if self.record:  # a full disk does not end the job from here: it will say so itself
            with contextlib.suppress(UserError):
                self.record = self.record.write(**details)

    def end(self, status: JobStatus) -> None:
        """Take the status that will not change any more."""
        self.status = dataclasses.replace(status, asked=status.asked or self.asked is not None)
        self.keep(**dataclasses.asdict(self.status))


class LocalLauncher(Launcher):
    """Processes of this machine.

    Jobs start in the order in which they were submitted, except that those that need others wait
    for them. None overtakes a job that waits for GPUs, so that one that needs many cards gets its
    turn. What `Resources` says of memory and hours is not enforced.

    Args:
        slots: how many may run at a time.
        gpus: names of the GPUs to hand out [those that this process may use].
    """

    name = "local"
    outlives = False

    def __init__(self, slots: int, gpus: Sequence[str] | None = None) -> None:
        self.slots = slots
        self.cards = Gpus(visible_gpus() if gpus is None else gpus)
        self.gpus = len(self.cards)
        self.jobs: dict[str, _Submitted] = {}
        self.adopted: dict[str, JobRecord] = {}
        self.told: set[str] = set()  # ids of adopted jobs that were asked to stop

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """See `Launcher`."""
        ids = {job.name: uuid.uuid4().hex for job in jobs}
        if len(ids) < len(jobs):
            raise UserError(
                "two of the jobs that are submitted together have one name: give each its own."
            )
        known = {submitted.job.name: id for id, submitted in self.jobs.items()} | ids
        taken = {}
        for job in jobs:
            self._check_gpus(job)
            needs = tuple(known.get(name, name) for name in job.after)
            for name, id in zip(job.after, needs, strict=True):
                if id not in self.jobs and id not in ids.values():
                    raise UserError(
                        f"job {job.name} needs {name}, which was not submitted: submit both."
                    )
            taken[ids[job.name]] = _Submitted(ids[job.name], job, needs)
        try:
            graphlib.TopologicalSorter(
                {id: submitted.needs for id, submitted in taken.items()}
            ).prepare()
        except graphlib.CycleError as error:
            circle = " -> ".join(taken[id].job.name for id in error.args[1])
            raise UserError(
                f"jobs need each other in a circle ({circle}): take one of the needs away."
            ) from None
        for submitted in taken.values():
            submitted.record = self._record(submitted)
        self.jobs |= taken
        return list(taken)

    def _check_gpus(self, job: Job) -> None:
        """Raise a UserError where a job asks for GPUs that will never be free."""
        if job.resources.gpus <= self.gpus:
            return
        listed = os.environ.get(VISIBLE)
        seen = f"{VISIBLE} is not set" if listed is None else f"{VISIBLE} is '{listed}'"
        raise UserError(
            f"job {job.name} asks for {job.resources.gpus:.3g} GPUs and there are {self.gpus}"
            f" ({seen}): ask for fewer, name more in {VISIBLE}, or compute on the processor with"
            " --device cpu."
        )

    def _record(self, submitted: _Submitted) -> JobRecord | None:
        """Begin `job.json`, unless it is that of another process's job that is still under way."""
        folder = submitted.job.folder
        if folder is None:
            return None
        before = read_job(folder)
        if before and before.launcher == self.name and not _status(before).over:
            return None
        this = psutil.Process()
        record = JobRecord(folder, self.name, submitted.id, submitted.job.name)
        return record.write(host=socket.gethostname(), submitter=[this.pid, this.create_time()])

    def poll(self, ids: Sequence[str]) -> dict[str, JobStatus]:
        """See `Launcher`."""
        for submitted in self.jobs.values():
            if submitted.status.state == State.RUNNING:
                self._look_at(submitted)
        self._give_up()
        self._start_ready()
        return {
            id: self.jobs[id].status if id in self.jobs else self._adopted_status(id) for id in ids
        }

    def stop(self, ids: Sequence[str]) -> None:
        """See `Launcher`. Adopted jobs that wait are left to the process that submitted them."""
        for id in ids:
            submitted = self.jobs.get(id)
            if submitted is None:
                self._stop_adopted(id)
            elif submitted.status.state == State.WAITING:
                submitted.end(
                    JobStatus(State.NOT_STARTED, reason="a stop was asked for", asked=True)
                )
            elif submitted.status.state == State.RUNNING and submitted.asked is None:
                submitted.asked = time.monotonic()
                submitted.process.send_signal(signal.SIGINT)

    # --- jobs of this process ---------------------------------------------------------------------

    def _look_at(self, submitted: _Submitted) -> None:
        """Take note of a running job that has ended; kill one that was asked to stop long ago."""
        code = submitted.process.poll()
        if code is not None:
            self.cards.give_back(submitted.gpus, submitted.job.resources.gpus)
            submitted.end(JobStatus(State.ENDED, code))
        elif submitted.asked is not None and time.monotonic() - submitted.asked > GRACE_SECONDS:
            _kill(submitted.process.pid)

    def _give_up(self) -> None:
        """Mark waiting jobs that need one which did not succeed, and in turn those after them."""
        changed = True
        while changed:
            changed = False
            for submitted in self.jobs.values():
                needed = [self.jobs[id] for id in submitted.needs]
                failed = [
                    other for other in needed if other.status.over and not other.status.succeeded
                ]
                if submitted.status.state == State.WAITING and failed:
                    status = failed[0].status
                    # All jobs of a chain name the one that failed, not the one before them.
                    inherited = status.state == State.NOT_STARTED and failed[0].needs
                    reason = status.reason if inherited else f"{failed[0].job.name} {status.words}"
                    submitted.end(JobStatus(State.NOT_STARTED, reason=reason, asked=status.stopped))
                    changed = True

    def _start_ready(self) -> None:
        """Start the jobs whose turn it is, until slots or GPUs run out."""
        running = sum(submitted.status.state == State.RUNNING for submitted in self.jobs.values())
        for submitted in self.jobs.values():
            ready = all(self.jobs[id].status.succeeded for id in submitted.needs)
            if submitted.status.state != State.WAITING or not ready:
                continue
            gpus = self.cards.take(submitted.job.resources.gpus) if running < self.slots else None
            if gpus is None:
                return
            self._start(submitted, gpus)
            running += submitted.status.state == State.RUNNING

    def _start(self, submitted: _Submitted, gpus: tuple[str, ...]) -> None:
        """Start a job's process on the cards that were taken for it."""
        job = submitted.job
        environment = {**os.environ, **job.environment}
        if self.gpus:  # where no card is known, there is none to keep the job from
            environment[VISIBLE] = ",".join(gpus)
        try:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with job.log.open("a") as log:
                # Ctrl-C in a terminal does not reach another session: `stop` alone asks the job.
                submitted.process = subprocess.Popen(
                    job.command,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            self.cards.give_back(gpus, job.resources.gpus)
            reason = f"{error.filename or job.command[0]}: {error.strerror}"
            submitted.end(JobStatus(State.NOT_STARTED, reason=reason))
            return
        pid = submitted.process.pid
        submitted.gpus, submitted.status = gpus, JobStatus(State.RUNNING)
        submitted.keep(pid=pid, started=psutil.Process(pid).create_time())

    # --- jobs of other processes ------------------------------------------------------------------

    def adopt(self, record: JobRecord) -> None:
        """See `Launcher`."""
        self.adopted[record.id] = record

    def _adopted_status(self, id: str) -> JobStatus:
        if id not in self.adopted:
            return JobStatus(State.UNKNOWN, reason="it was not submitted here")
        record = read_job(self.adopted[id].folder)
        if record is None or record.id != id:
            return JobStatus(State.UNKNOWN, reason="another job was submitted in its place")
        self.adopted[id] = record
        return _status(record)

    def _stop_adopted(self, id: str) -> None:
        if id not in self.told and self._adopted_status(id).state == State.RUNNING:
            self.told.add(id)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.adopted[id].details["pid"], signal.SIGINT)


def _status(record: JobRecord) -> JobStatus:
    """Return how any process's job stands, as far as its record and the process table tell."""
    its = record.details
    if "state" in its:
        return JobStatus(State(its["state"]), its["code"], its["reason"], its["asked"])
    if its["host"] != socket.gethostname():
        return JobStatus(State.UNKNOWN, reason=f"it was started on {its['host']}")
    if "pid" in its:
        return JobStatus(State.RUNNING if _alive(its["pid"], its["started"]) else State.ENDED)
    if _alive(*its["submitter"]):
        return JobStatus(State.WAITING)
    return JobStatus(State.NOT_STARTED, reason="the process that submitted it is gone")


def _alive(pid: int, started: float) -> bool:
    """Return whether the process of this id and start time [seconds since 1970] still runs."""
    try:
        process = psutil.Process(pid)
        # Start times are counted from the boot, whose time moves a little when the clock is set.
        return abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill(pid: int) -> None:
    """Kill a process and all that it has started, such as torchrun's processes."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


LAUNCHER = LocalLauncher
