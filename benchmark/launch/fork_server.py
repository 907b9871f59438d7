"""A process that has imported what runs need, and forks a job when it is asked to.

It is started by `forked`, and shares a connection with it. Each job is what `python -m
benchmark.cli` with the same arguments would be: it leads a session of its own, writes to its log,
and ends as a program ends. Only its imports are there already.

A fork copies one thread alone, and locks that others hold stay locked in the copy. So nothing here
starts a thread or touches a GPU, and no job is forked where there is a second thread all the same.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait

# The commands of jobs, and what their networks, records and pictures need.
MODULES = (
    "benchmark.cli.app",
    "benchmark.training.worker",
    "benchmark.robustness.run",
    "benchmark.robustness.results",
    "pyarrow.parquet",
)
ARROW = "JE_ARROW_MALLOC_CONF"


def main() -> None:
    """Import, serve a launcher, and be the jobs.

    The command line gives the descriptor of the connection and the process id of the launcher.
    """
    # The terminal's Ctrl-C is the launcher's, which asks each job to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection, parent = Connection(int(sys.argv[1])), int(sys.argv[2])
    preload()
    command = serve(connection, parent)
    if command is not None:
        be(command)


def preload() -> None:
    """Import what jobs need, without the code of plugins."""
    import methods
    from benchmark.runs.environment import git_state

    # Arrow brings an allocator with a thread of its own, which pandas does not use.
    is_set = ARROW in os.environ
    os.environ.setdefault(ARROW, "background_thread:false")
    for name in MODULES:
        importlib.import_module(name)
    for load in methods.METHODS.shipped().values():
        load().load()
    if not is_set:
        del os.environ[ARROW]
    # A commit that is made while jobs wait is not the code that is imported here.
    git_state()
    # What is here stays here, so no collection in a job writes into the pages that it shares.
    gc.collect()
    gc.freeze()


def be(command: list[str]) -> None:
    """Run a job in this process.

    Args:
        command: what a launcher would start, which is `python -P -m MODULE ARGUMENT ...`.
    """
    # Some libraries complain at the end of a process about what was not collected.
    atexit.register(gc.unfreeze)
    place = command.index("-m") + 1
    # A run that stalls starts itself anew with the first of these.
    sys.orig_argv = [*command]
    sys.argv = ["-m", *command[place + 1 :]]
    runpy.run_module(command[place], run_name="__main__", alter_sys=True)


def serve(connection: Connection, parent: int) -> list[str] | None:
    """Fork the jobs that are asked for, until the launcher is gone.

    It takes messages of JSON: `{"id": ..., "command": [...], "log": ...}`. The answers are `{"id":
    ..., "pid": ...}`, or a `pid` of None where nothing can be forked, and later `{"id": ...,
    "code": ...}`, where the code of a job that was killed by a signal is negative.

    Args:
        connection: the one with the launcher.
        parent: the process id of the launcher.

    Returns:
        The command of the job in each forked process, and None in this one.
    """
    jobs: dict[int, str] = {}  # process id -> id
    with _wakened() as wakened:
        while True:
            ready = wait([connection, wakened])
            try:
                if wakened in ready:
                    os.read(wakened, 4096)
                    for pid, code in _ended(jobs):
                        _send(connection, id=jobs.pop(pid), code=code)
                if connection not in ready:
                    continue
                asked = json.loads(connection.recv_bytes())
                if os.getppid() != parent:
                    return None
                pid = _fork(asked["log"]) if is_single() else None
                if pid == 0:
                    connection.close()
                    return asked["command"]
                if pid is not None:
                    jobs[pid] = asked["id"]
                _send(connection, id=asked["id"], pid=pid)
            except (EOFError, ConnectionError):
                return None


def is_single() -> bool:
    """Return whether this process has one thread and no CUDA, so that it can be forked."""
    torch = sys.modules.get("torch")
    has_cuda = torch is not None and torch.cuda.is_initialized()
    return len(os.listdir("/proc/self/task")) == 1 and not has_cuda


def _fork(log: str) -> int:
    """Fork a job, and return its process id, or 0 in the job.

    The job heeds signals before its id is known to anybody.
    """
    begun, begin = os.pipe()
    pid = os.fork()
    if pid:
        os.close(begin)
        os.read(begun, 1)
        os.close(begun)
        return pid
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for output in (1, 2):
        os.dup2(written, output)
    for descriptor in (written, begun, begin):
        os.close(descriptor)
    return 0


@contextlib.contextmanager
def _wakened() -> Iterator[int]:
    """Give a descriptor that can be read when a job has ended. Outside of it none can."""
    wakened, wake = os.pipe()
    os.set_blocking(wakened, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        yield wakened
    finally:
        signal.set_wakeup_fd(-1)
        os.close(wakened)
        os.close(wake)


def _ended(jobs: dict[int, str]) -> Iterator[tuple[int, int]]:
    """Yield process id and exit code of each job that has ended."""
    for pid in [*jobs]:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            yield pid, os.waitstatus_to_exitcode(status)


def _send(connection: Connection, **message: object) -> None:
    connection.send_bytes(json.dumps(message).encode())


if __name__ == "__main__":
    main()
