"""Shows run directories in MLflow.

The directories are the truth. What MLflow holds can be lost, and `sync` makes it again.

An experiment is a data set. A parent run is a study, or a preset's method, variant and strategy. A
child is one run directory, which is found again by its tag `ris.key` and never by an MLflow id. A
run of several groups is shown once, under the first of them (presets before studies), and tagged
with all. Its tag `ris.trials` names the trials of searches that it is.

A repeated or interrupted sync does no harm, for these reasons:

- The tag `ris.stamp` says what the directory looked like: its state, its groups, and size and time
  of every file that is shown. It is written last, and a run whose stamp fits is left alone.
- Only the steps of a metric beyond its last one are sent. A resumed run drops the lines beyond its
  resume point and makes them again. On a CPU they are the same, and on a GPU nearly so. MLflow
  keeps those that it saw first, and the run directory has the valid ones.
- A file is uploaded once per content, because `ris.artifacts` holds the digests. Weights stay in
  the run directory.
- Each store has a lock, so a second sync waits for the first.
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

# --- the store ------------------------------------------------------------------------------------


def default_uri(runs: Path) -> str:
    """Return the tracking URI that is used if none is given, a database in the folder of runs."""
    return f"sqlite:///{runs.resolve() / 'mlflow.db'}"


def database_file(uri: str) -> Path | None:
    """Return the file behind a SQLite URI, or None for any other store.

    Raises:
        UserError: `uri` is no URI. MLflow 3 refuses plain folders.
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
    """Return where artifacts lie for a store without a server, which is beside its database."""
    file = database_file(uri)
    return (file.parent if file else runs.resolve()) / "mlartifacts"


_inodes: dict[Path, list[int]] = defaultdict(list)


def _client(uri: str) -> MlflowClient:
    """Return a client of the store. An empty database is made if there is none."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    file = database_file(uri)
    if file:
        # MLflow keeps a database open by its URI for the life of the process. A `watch` may see one
        # deleted and made again. The new one gets another spelling, or its rows would go into the
        # deleted file.
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
    """Hold the store, after waiting for any other sync of this machine."""
    file = database_file(uri)
    if file:
        path = file.with_name(f"{file.name}.lock")
    else:
        path = runs / f".sync-{hashlib.sha256(uri.encode()).hexdigest()[:10]}.lock"
    with locked(path):
        yield


@contextlib.contextmanager
def _readable_errors(uri: str) -> Iterator[None]:
    """Turn what a store can raise into one sentence."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{uri.split(':')[0]} needs a database driver ({error}): install it."
        ) from None
    except (MlflowException, SQLAlchemyError, OSError) as error:
        refused = re.search(r"\[Errno -?\d+\] ([\w ]+)", str(error))
        reason = refused[1] if refused else str(error).strip().split("\n")[0][:200]
        address = make_url(uri).render_as_string(hide_password=True)
        raise UserError(
            f"the tracking store {address} cannot be used ({reason}). No run is lost: put it right"
            " or give another --uri, and `risbench sync` sends what is missing."
        ) from None


# --- a pass over all runs -------------------------------------------------------------------------


@contextlib.contextmanager
def _named(key: str, summary: Summary) -> Iterator[None]:
    """Note what is wrong with one run, so that the sync goes on with the next."""
    try:
        yield
    except UserError as error:
        summary.failed[key] = str(error)
    except MlflowException as error:
        # With any other code the store itself cannot be used.
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        summary.failed[key] = error.message


def sync(runs: Path, uri: str | None = None) -> Summary:
    """Make the store show what the run directories hold, and return what that took.

    Args:
        runs: folder of the run directories.
        uri: tracking address, `default_uri` by default.

    Raises:
        UserError: there is no such folder, or the store cannot be used. Nothing is lost then, and a
            later sync goes on.
    """
    if not runs.is_dir():
        raise UserError(
            f"there is no folder {runs}: give the runs' folder with --runs, or start some first."
        )
    uri = uri or default_uri(runs)
    location = None if uri.startswith(("http:", "https:")) else artifact_folder(runs, uri)
    summary = Summary()
    with _readable_errors(uri), _lock(runs, uri):
        groups_of = members(read_groups(runs))
        experiments: dict[str, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
        for run in all_runs(runs):
            with _named(run.key, summary), reading(run):
                entry = Entry(run, groups_of.get(run.key, []))
                experiments[entry.spec.dataset][entry.parent].append(entry)
        client = _client(uri)
        if not experiments:
            # A wrong address is reported although there is nothing to send yet.
            client.search_experiments(max_results=1)
        for dataset, parents in sorted(experiments.items()):
            entries = [entry for children in parents.values() for entry in children]
            _show_dataset(Experiment(client, dataset, location), entries, runs, summary)
    return summary


def _show_dataset(
    experiment: Experiment, entries: list[Entry], runs: Path, summary: Summary
) -> None:
    """Show the runs of one data set, then their parents, and then the reports of their studies."""
    for entry in entries:
        with _named(entry.run.key, summary):
            result = experiment.show(entry)
            setattr(summary, result, getattr(summary, result) + 1)
    shown = [entry for entry in entries if entry.run.key not in summary.failed]
    for name, children in by_parent(shown).items():
        experiment.show_parent(name, children)
    studies = {
        group.name: group for entry in shown for group in entry.groups if group.kind == "study"
    }
    for group in studies.values():
        experiment.show_report(group, study_report(runs, group))


def ui_command(
    runs: Path, uri: str | None = None, host: str = "127.0.0.1", port: int = 5000
) -> list[str]:
    """Return the command line of MLflow's user interface on a store.

    A sync must come first, so that two processes never make one database.

    Args:
        runs: folder of the run directories.
        uri: tracking address, `default_uri` by default.
        host: address that the server listens at.
        port: port that the server listens at.

    Raises:
        UserError: the address is that of a running server, or the database is not there yet.
    """
    uri = uri or default_uri(runs)
    if uri.startswith(("http:", "https:")):
        raise UserError(f"{uri} is a running server: open it in a browser.")
    file = database_file(uri)
    if file and not file.exists():
        raise UserError(f"there is no database {file} yet: `risbench sync` makes it.")
    command = [*PYTHON, "mlflow", "server", "--backend-store-uri", uri]
    command += ["--artifacts-destination", str(artifact_folder(runs, uri))]
    return [*command, "--host", host, "--port", str(port), "--workers", "1"]


class MlflowTracker(Tracker):
    """MLflow, which keeps a database in the folder of the runs or is behind a server."""

    def sync(self, runs: Path, address: str | None = None) -> Summary:
        """Make the store show the run directories, as the function `sync` does."""
        return sync(runs, address)

    def ui_command(self, runs: Path, address: str | None, host: str, port: int) -> list[str]:
        """Return the command line of the user interface, as the function `ui_command` does."""
        return ui_command(runs, address, host, port)


TRACKER = MlflowTracker()
