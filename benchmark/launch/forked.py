"""The launcher's side of a fork server, and the jobs that it gets from there."""

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from benchmark.base.parent import is_alive
from benchmark.launch.jobs import PYTHON

JOB = (*PYTHON, "benchmark.cli")  # begins the commands that can be forked
MODULE = "benchmark.launch.fork_server"
# A job that nobody saw end, since the server was killed, counts as one that ended with this code.
UNSEEN = 255


class ForkServer:
    """A process that forks jobs, as long as the launcher lives.

    Args:
        environment: all environment variables of the server and of its jobs. Libraries read some
            of them when they are imported.

    Attributes:
        environment: the same.
        is_there: whether it still takes jobs.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._connection, other = multiprocessing.Pipe()
        with other:
            self._process = subprocess.Popen(
                [*PYTHON, MODULE, str(other.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self.environment,
                pass_fds=[other.fileno()],
                start_new_session=True,
            )
        self._jobs: dict[str, Forked] = {}
        self.is_there = True

    def start(
        self, command: Sequence[str], log: Path, plain: Callable[[], subprocess.Popen]
    ) -> "Forked":
        """Ask for a job, and return it at once, mostly before it has a process.

        Args:
            command: of the job.
            log: the file to which its output is appended, in a folder that is there.
            plain: starts the job without the server, if that cannot.
        """
        job = Forked(self, plain)
        id = uuid.uuid4().hex
        self._jobs[id] = job
        asked = {"id": id, "command": [*command], "log": str(log.absolute())}
        try:
            self._connection.send_bytes(json.dumps(asked).encode())
        except OSError:
            self.listen()
        return job

    def listen(self) -> None:
        """Take what the server says of its jobs."""
        try:
            while self.is_there and self._connection.poll():
                said = json.loads(self._connection.recv_bytes())
                self._jobs[said.pop("id")].hear(**said)
        except (EOFError, OSError):
            self._give_up()

    def _give_up(self) -> None:
        """Start the jobs that have no process yet without the server, which is gone."""
        self.is_there = False
        for job in self._jobs.values():
            if job.pid is None:
                job.hear(pid=None)

    def close(self) -> None:
        """End the server. Its jobs go on, but nobody sees how they end."""
        self.is_there = False
        self._connection.close()
        self._process.kill()
        self._process.wait()


class Forked:
    """A job of a fork server, used as a `subprocess.Popen`.

    Attributes:
        pid: its process id, or None as long as the server has not answered.
    """

    def __init__(self, server: ForkServer, plain: Callable[[], subprocess.Popen]) -> None:
        self.pid: int | None = None
        self._server = server
        self._start_plain = plain
        self._plain: subprocess.Popen | None = None
        self._started = 0.0
        self._code: int | None = None
        self._asked: list[int] = []

    def hear(self, pid: int | None = None, code: int | None = None) -> None:
        """Take what the server says: a process id, None where it has none to give, or a code."""
        if code is not None:
            self._code = code
            return
        if pid is None:
            self._plain = self._start_plain()
        self.pid = pid or self._plain.pid
        # One that has ended by now is a zombie, whose code follows.
        with contextlib.suppress(psutil.NoSuchProcess):
            self._started = psutil.Process(self.pid).create_time()
        for number in self._asked:
            self.send_signal(number)

    def poll(self) -> int | None:
        """Return the exit code, or None while the job has not ended."""
        self._server.listen()
        if self._plain is not None:
            return self._plain.poll()
        is_unseen = self.pid is not None and self._code is None and not self._server.is_there
        if is_unseen and not is_alive(self.pid, self._started):
            self._code = UNSEEN
        return self._code

    def send_signal(self, number: int) -> None:
        """Send a signal to the job, once it has a process."""
        if self.pid is None:
            self._asked.append(number)
        elif self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def can_fork(command: Sequence[str]) -> bool:
    """Return whether a fork server can run a command on this system, and has its imports."""
    return sys.platform == "linux" and tuple(command[: len(JOB)]) == JOB
