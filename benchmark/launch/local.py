"""The launcher that starts jobs as processes of this machine and hands out its GPUs.

A job waits in this process until a slot and its GPUs are free, and `poll` starts it. Ids are made
when jobs are submitted. `job.json` also keeps the process id and the start time, from which other
processes of this machine see whether the job is alive. Jobs end when this process is gone (see
`base.parent`).

Several jobs on the processor are forked from one process that has imported what they need.
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
from collections.abc import Mapping, Sequence

import psutil

from benchmark.base.errors import UserError
from benchmark.base.parent import is_alive, launched_from_here
from benchmark.launch.base import Job, JobRecord, JobStatus, Launcher, State, read_job
from benchmark.launch.forked import Forked, ForkServer, can_fork
from benchmark.launch.gpus import VISIBLE, Gpus, visible_gpus

GRACE_SECONDS = 120  # A job that was asked to stop has this long to save its state.


@dataclasses.dataclass
class _Submitted:
    """A job of this launcher.

    Attributes:
        id: the id of the job.
        job: the job.
        needs: the ids of the jobs that it comes after.
        record: what `job.json` keeps of it, or None where it keeps nothing.
        status: the status as it was last seen.
        process: the process of the job, once it was started.
        gpus: the cards that the job has while it runs.
        asked: when the job was asked to stop, in monotonic seconds, or None.
    """

    id: str
    job: Job
    needs: tuple[str, ...]
    record: JobRecord | None = None
    status: JobStatus = JobStatus(State.WAITING)
    process: subprocess.Popen | Forked | None = None
    gpus: tuple[str, ...] = ()
    asked: float | None = None

    def keep(self, **details: object) -> None:
        """Add details to `job.json`, which other processes read."""
        if self.record:
            # On a full disk the job will say so itself, and need not be ended from here.
            with contextlib.suppress(UserError):
                self.record = self.record.write(**details)

    def keep_process(self) -> None:
        """Add the process to `job.json`, once there is one."""
        pid = self.process.pid
        if pid is None or (self.record and self.record.details.get("pid") == pid):
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            self.keep(pid=pid, started=psutil.Process(pid).create_time())

    def end(self, status: JobStatus) -> None:
        """Set and record the final status."""
        self.status = dataclasses.replace(status, asked=status.asked or self.asked is not None)
        self.keep(**dataclasses.asdict(self.status))


class LocalLauncher(Launcher):
    """Starts jobs as processes of this machine.

    Jobs start in the order in which they were submitted, except that those that need others wait
    for them. No job overtakes one that waits for GPUs, so that a job that needs many cards gets its
    turn. What `Resources` says of memory and hours is not enforced.

    Args:
        slots: how many jobs may run at a time.
        gpus: names of the GPUs to hand out. By default these are all that this process may use.
    """

    name = "local"
    outlives = False

    def __init__(self, slots: int, gpus: Sequence[str] | None = None) -> None:
        self.slots = slots
        self.cards = Gpus(visible_gpus() if gpus is None else gpus)
        self.gpus = len(self.cards)
        self.jobs: dict[str, _Submitted] = {}
        self.adopted: dict[str, JobRecord] = {}
        self.asked: set[str] = set()  # The ids of adopted jobs that were asked to stop.
        self.server: ForkServer | None = None

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """See `Launcher`."""
        ids = {job.name: uuid.uuid4().hex for job in jobs}
        if len(ids) < len(jobs):
            raise UserError(
                "two jobs that are submitted together have one name: give each its own."
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
                f"jobs need each other in a circle ({circle}): remove one of these needs."
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
            " --device cpu, or where a preset plans the job, with `device: cpu` in its execution."
        )

    def _record(self, submitted: _Submitted) -> JobRecord | None:
        """Begin `job.json`, unless another process has a job there that is not over."""
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

    def close(self) -> None:
        """See `Launcher`."""
        if self.server is not None:
            self.server.close()
            self.server = None

    # --- jobs of this process ---------------------------------------------------------

    def _look_at(self, submitted: _Submitted) -> None:
        """Record the end of a running job, or kill one that was asked to stop long ago."""
        code = submitted.process.poll()
        submitted.keep_process()
        if code is not None:
            # Loaders of a process that was killed would live on for some seconds.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(submitted.process.pid, signal.SIGKILL)
            self.cards.give_back(submitted.gpus, submitted.job.resources.gpus)
            submitted.end(JobStatus(State.ENDED, code))
        elif submitted.asked is not None and time.monotonic() - submitted.asked > GRACE_SECONDS:
            if submitted.process.pid is not None:
                _kill(submitted.process.pid)

    def _give_up(self) -> None:
        """End waiting jobs that need one which did not succeed, and in turn the jobs after them."""
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
                    # Every job of a chain names the one that failed, not the one just before it.
                    inherited = status.state == State.NOT_STARTED and failed[0].needs
                    reason = status.reason if inherited else f"{failed[0].job.name} {status.words}"
                    submitted.end(JobStatus(State.NOT_STARTED, reason=reason, asked=status.stopped))
                    changed = True

    def _start_ready(self) -> None:
        """Start the jobs that are ready, in order, until slots or GPUs run out."""
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
        """Start the process of a job on the cards that were taken for it."""
        job = submitted.job
        environment = {**os.environ, **job.environment, **launched_from_here()}
        # Without a known card there is none to hide, and the variable stays as the user set it.
        if self.gpus:
            environment[VISIBLE] = ",".join(gpus)
        try:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            job.log.open("a").close()
            submitted.process = self._process(job, environment)
        except OSError as error:
            self.cards.give_back(gpus, job.resources.gpus)
            reason = f"{error.filename or job.command[0]}: {error.strerror}"
            submitted.end(JobStatus(State.NOT_STARTED, reason=reason))
            return
        submitted.gpus = gpus
        submitted.status = JobStatus(State.RUNNING)
        submitted.keep_process()

    def _process(self, job: Job, environment: Mapping[str, str]) -> subprocess.Popen | Forked:
        """Return the new process of a job, which is forked where several can be.

        Raises:
            OSError: the program cannot be started, or its log cannot be written.
        """

        def plain() -> subprocess.Popen:
            with job.log.open("a") as log:
                # In a session of its own, the job does not get the terminal's Ctrl-C. It is
                # asked to stop by `stop` alone.
                return subprocess.Popen(
                    job.command,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,
                )

        several = sum(_is_forked(submitted.job) for submitted in self.jobs.values()) > 1
        if not (several and _is_forked(job)):
            return plain()
        if self.server is None:
            self.server = ForkServer(environment)
        # What other variables ask for may be decided by the imports.
        if self.server.environment != environment or not self.server.is_there:
            return plain()
        return self.server.start(job.command, job.log, plain)

    # --- jobs of other processes ------------------------------------------------------

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
        if id not in self.asked and self._adopted_status(id).state == State.RUNNING:
            self.asked.add(id)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.adopted[id].details["pid"], signal.SIGINT)


def _status(record: JobRecord) -> JobStatus:
    """Return the status of a job of any process, from its record and the process table."""
    details = record.details
    if "state" in details:
        return JobStatus(
            State(details["state"]), details["code"], details["reason"], details["asked"]
        )
    if details["host"] != socket.gethostname():
        return JobStatus(State.UNKNOWN, reason=f"it was started on {details['host']}")
    if "pid" in details:
        alive = is_alive(details["pid"], details["started"])
        return JobStatus(State.RUNNING if alive else State.ENDED)
    if is_alive(*details["submitter"]):
        return JobStatus(State.WAITING)
    return JobStatus(State.NOT_STARTED, reason="the process that submitted it is gone")


def _is_forked(job: Job) -> bool:
    """Return whether a job can be forked. One that waits for a GPU has time for its imports."""
    return not job.resources.gpus and can_fork(job.command)


def _kill(pid: int) -> None:
    """Kill a process and its descendants, such as those that torchrun has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [*root.children(recursive=True), root]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


LAUNCHER = LocalLauncher
