"""Run directories -> MLflow. The directory is the truth; what MLflow holds can be lost and is made again by `sync`.

Experiment = data set; parent run = a study, or preset x method x variant x strategy; child = one run directory, found again by
its tag `ris.key`, never by an MLflow id. A run of several groups is shown once, under the first of them (presets before
studies), and tagged with all; `ris.trials` names the trials of searches that it is.

What makes a repeated or interrupted sync harmless:
- `ris.stamp` says what the directory looked like (state, groups, size and time of every file that is shown). It is written
  last; a run whose stamp fits is left alone.
- Of every metric only steps beyond its last one are sent. A resumed run drops the lines beyond its resume point and makes them
  again: on a CPU the same ones, on a GPU nearly; MLflow keeps those it saw first, the run directory has the valid ones.
- A file is uploaded once per content (`ris.artifacts` holds the digests). Weights stay in the run directory.
- One lock per store: a second sync waits.
"""

import contextlib
import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from benchmark.base.errors import UserError
from benchmark.base.locks import locked
from benchmark.launch.jobs import PYTHON
from benchmark.runs.groups import members, read_groups
from benchmark.runs.rundir import all_runs
from benchmark.tracking.mlflow_experiment import Experiment, by_parent
from benchmark.tracking.projection import Entry, reading, study_report
from benchmark.tracking.tracker import Summary, Tracker

# --- the store ------------------------------------------------------------------------------------------------------


def default_uri(runs: Path) -> str:
    """Return the tracking URI that is used where none is given: a database in the folder of the runs."""
    return f"sqlite:///{runs.resolve() / 'mlflow.db'}"


def database_file(uri: str) -> Path | None:
    """Return the file behind a SQLite URI; None for any other store.

    Raises:
        UserError: `uri` is no URI (MLflow 3 refuses plain folders).
    """
    try:
        url = make_url(uri)
    except ArgumentError:
        raise UserError(
            f"'{uri}' is no tracking address: give sqlite:///<file> or http://<host>:<port>."
        ) from None
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database:
        raise UserError(f"'{uri}' names no file: give sqlite:///<file>.")
    return Path(url.database).resolve()


def artifact_folder(runs: Path, uri: str) -> Path:
    """Return where artifacts lie for a store without a server: beside its database."""
    file = database_file(uri)
    return (file.parent if file else runs.resolve()) / "mlartifacts"


_inodes: dict[Path, list[int]] = defaultdict(list)


def _client(uri: str) -> MlflowClient:
    """Return a client of the store; makes an empty database."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    file = database_file(uri)
    if file:
        # MLflow keeps a database open for the life of the process, by URI. One that was deleted and is made again (a `watch`
        # outlives that) gets another spelling, or the rows would go into the deleted file.
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        inode = file.stat().st_ino
        if inode not in _inodes[file]:
            _inodes[file].append(inode)
        spelling = f"{file.parent}{'/.' * _inodes[file].index(inode)}/{file.name}"
        uri = make_url(uri).set(database=spelling).render_as_string(hide_password=False)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def _lock(runs: Path, uri: str) -> Iterator[None]:
    """Hold the store; wait while another sync of this machine does."""
    file = database_file(uri)
    name = f".sync-{hashlib.sha256(uri.encode()).hexdigest()[:10]}.lock"
    with locked(file.with_name(f"{file.name}.lock") if file else runs / name):
        yield


@contextlib.contextmanager
def _readable_errors(uri: str) -> Iterator[None]:
    """Turn what a store can raise into one sentence."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{uri.split(':')[0]} needs a database driver ({error}); install it."
        ) from None
    except (MlflowException, SQLAlchemyError, OSError) as error:
        refused = re.search(r"\[Errno -?\d+\] ([\w ]+)", str(error))
        reason = refused[1] if refused else str(error).strip().split("\n")[0][:200]
        address = make_url(uri).render_as_string(hide_password=True)
        raise UserError(
            f"the tracking store {address} cannot be used ({reason}); no run is lost: put it right or give another --uri,"
            " and `risbench sync` sends what is missing."
        ) from None


# --- a pass over all runs ---------------------------------------------------------------------------


@contextlib.contextmanager
def _named(key: str, summary: Summary) -> Iterator[None]:
    """Note what is wrong with one run and go on with the next."""
    try:
        yield
    except UserError as error:
        summary.failed[key] = str(error)
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        summary.failed[key] = error.message


def sync(runs: Path, uri: str | None = None) -> Summary:
    """Make the store show what the run directories hold, and return what that took.

    Args:
        runs: folder of the run directories. uri: tracking address [`default_uri`].

    Raises:
        UserError: there is no such folder, or the store cannot be used; then nothing is lost and a later sync goes on.
    """
    if not runs.is_dir():
        raise UserError(
            f"there is no folder {runs}: give the runs' folder with --runs, or start some first."
        )
    uri = uri or default_uri(runs)
    location = None if uri.startswith(("http:", "https:")) else artifact_folder(runs, uri)
    summary = Summary()
    with _readable_errors(uri), _lock(runs, uri):
        of_run = members(read_groups(runs))
        experiments: dict[str, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
        for run in all_runs(runs):
            with _named(run.key, summary), reading(run):
                entry = Entry(run, of_run.get(run.key, []))
                experiments[entry.spec.dataset][entry.parent].append(entry)
        client = _client(uri)
        if not experiments:
            client.search_experiments(
                max_results=1
            )  # a wrong address shows before there is anything to send
        for dataset, parents in sorted(experiments.items()):
            experiment = Experiment(client, dataset, location)
            for entries in parents.values():
                for entry in entries:
                    with _named(entry.run.key, summary):
                        what = experiment.show(entry)
                        setattr(summary, what, getattr(summary, what) + 1)
            shown = [
                entry
                for entries in parents.values()
                for entry in entries
                if entry.run.key not in summary.failed
            ]
            for name, entries in by_parent(shown).items():
                experiment.show_parent(name, entries)
            for group in {
                group.name: group
                for entry in shown
                for group in entry.groups
                if group.kind == "study"
            }.values():
                experiment.show_report(group, study_report(runs, group))
    return summary


def ui_command(
    runs: Path, uri: str | None = None, host: str = "127.0.0.1", port: int = 5000
) -> list[str]:
    """Return the command line of MLflow's UI on a store; sync first, so that two processes never make one database.

    Raises:
        UserError: the address is that of a running server, or the database is not there yet.
    """
    uri = uri or default_uri(runs)
    if uri.startswith(("http:", "https:")):
        raise UserError(f"{uri} is a running server: open it in a browser.")
    file = database_file(uri)
    if file and not file.exists():
        raise UserError(f"there is no database {file} yet: `risbench sync` makes it.")
    place = ["--backend-store-uri", uri, "--artifacts-destination", str(artifact_folder(runs, uri))]
    return [
        *PYTHON,
        "mlflow",
        "server",
        *place,
        "--host",
        host,
        "--port",
        str(port),
        "--workers",
        "1",
    ]


class MlflowTracker(Tracker):
    """MLflow, in a database of its own in the folder of the runs, or behind a server."""

    def sync(self, runs: Path, address: str | None = None) -> Summary:
        """See `sync`."""
        return sync(runs, address)

    def ui_command(self, runs: Path, address: str | None, host: str, port: int) -> list[str]:
        """See `ui_command`."""
        return ui_command(runs, address, host, port)


TRACKER = MlflowTracker()
