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
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from benchmark.base.errors import UserError
from benchmark.runs.groups import Group, read_groups
from benchmark.runs.rundir import all_runs
from benchmark.tracking.projection import (
    TEXT_CHARACTERS,
    Entry,
    digest,
    final_metrics,
    flatten,
    milliseconds,
    parent_of,
    reading,
    study_report,
)

# Read when MLflow is imported, and by the server that `ui_command` starts; a dead server must not hold up a sync for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

STATUS = {"planned": "SCHEDULED", "running": "RUNNING", "done": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # MLflow's limits
PARENT = "mlflow.parentRunId"


@dataclasses.dataclass
class Summary:
    """What a sync did: number of runs created, updated and left alone; key -> reason of those it could not show."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        counts = f"{self.created} runs created, {self.updated} updated, {self.unchanged} unchanged"
        return "\n".join([counts, *(f"not shown: {key}: {reason}" for key, reason in self.failed.items())])


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
        raise UserError(f"'{uri}' is no tracking address: give sqlite:///<file> or http://<host>:<port>.") from None
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
    path = file.with_name(f"{file.name}.lock") if file else runs / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _readable_errors(uri: str) -> Iterator[None]:
    """Turn what a store can raise into one sentence."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"{uri.split(':')[0]} needs a database driver ({error}); install it.") from None
    except (MlflowException, SQLAlchemyError, OSError) as error:
        refused = re.search(r"\[Errno -?\d+\] ([\w ]+)", str(error))
        reason = refused[1] if refused else str(error).strip().split("\n")[0][:200]
        address = make_url(uri).render_as_string(hide_password=True)
        raise UserError(
            f"the tracking store {address} cannot be used ({reason}); no run is lost: put it right or give another --uri,"
            " and `risbench sync` sends what is missing."
        ) from None


# --- making the store look like it ----------------------------------------------------------------------------------


class Experiment:
    """One data set in the store. `runs` holds what is there: ris.key or ris.parent -> MLflow run."""

    def __init__(self, client: MlflowClient, name: str, artifacts: Path | None) -> None:
        self.client = client
        found = client.get_experiment_by_name(name)
        if found and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        location = (artifacts / name).as_uri() if artifacts else None
        self.id = found.experiment_id if found else client.create_experiment(name, location)
        self.runs: dict[str, Run] = {}
        for run in self.search():
            name = run.data.tags.get("ris.key") or run.data.tags.get("ris.parent")
            if name in self.runs:  # two machines made it at once, or a restored experiment brought it back
                client.delete_run(run.info.run_id)
            elif name:
                self.runs[name] = run

    def search(self) -> list[Run]:
        """Return all runs, oldest first."""
        found, page = [], None
        while True:
            runs = self.client.search_runs([self.id], max_results=1000, order_by=["start_time ASC"], page_token=page)
            found, page = found + list(runs), runs.token
            if not page:
                return found

    def create(self, name: str, start: float, tags: dict[str, str]) -> Run:
        """Create and return a run; `start` in seconds."""
        self.runs[name] = self.client.create_run(self.id, milliseconds(start), tags, name)
        return self.runs[name]

    def tag(self, run: Run, tags: dict[str, str]) -> None:
        """Set the tags that differ; an empty value is set only where there was one."""
        new = [RunTag(name, value) for name, value in tags.items() if run.data.tags.get(name, "") != value]
        if new:
            self.client.log_batch(run.info.run_id, tags=new)

    def set_state(self, run: Run, state: str, end: int | None) -> None:
        """Set status and end time where they differ."""
        if end is not None and (run.info.status, run.info.end_time) != (STATUS[state], end):
            self.client.set_terminated(run.info.run_id, STATUS[state], end)
        elif end is None and run.info.status != STATUS[state]:
            self.client.update_run(run.info.run_id, STATUS[state])

    def show(self, entry: Entry) -> str:
        """Show a run directory and return what that took: `created`, `updated` or `unchanged`."""
        shown, parent = self.runs.get(entry.run.key), self.runs.get(entry.parent)
        before = shown.data.tags if shown else {}
        if before.get("ris.stamp") == entry.stamp and parent and before.get(PARENT) == parent.info.run_id:
            return "unchanged"
        last = {metric.key: metric.step for metric in shown.data.to_proto().metrics} if shown else {}
        with reading(entry.run):
            points = [Metric(*point) for point in entry.points(last, shown.data.metrics if shown else {})]
            tags, artifacts = entry.tags(), entry.artifacts()
            planned = (entry.run.path / "spec.yaml").stat().st_mtime
        parent_id = (parent or self.create(entry.parent, planned, {"ris.parent": entry.parent})).info.run_id
        run = shown or self.create(entry.run.key, planned, {"ris.key": entry.run.key, PARENT: parent_id})
        tags[PARENT] = parent_id
        self.tag(run, tags)
        params = flatten(entry.spec.model_dump(mode="json")).items()
        for batch in _batches([Param(*param) for param in params if param[0] not in run.data.params], PARAMS_AT_ONCE):
            self.client.log_batch(run.info.run_id, params=batch)
        for batch in _batches(points, METRICS_AT_ONCE):
            self.client.log_batch(run.info.run_id, metrics=batch)
        sent = json.loads(before.get("ris.artifacts", "{}"))
        for path, content in artifacts.items():
            if sent.get(path) != content:
                self.client.log_artifact(run.info.run_id, str(entry.run.path / path), os.path.dirname(path) or None)
        self.set_state(run, entry.state, entry.end)
        digests = json.dumps(artifacts)
        self.tag(run, {"ris.artifacts": digests if len(digests) <= TEXT_CHARACTERS else "{}", "ris.stamp": entry.stamp})
        if shown and before.get(PARENT) != parent_id:
            self.leave(before.get(PARENT, ""))
        return "updated" if shown else "created"

    def leave(self, parent_id: str) -> None:
        """Delete a parent whose last child went to another one."""
        left = next((name for name, run in self.runs.items() if run.info.run_id == parent_id), "study")
        if not left.startswith(
            "study"
        ):  # a study's own, which holds its report, may have runs that are shown elsewhere
            if not self.client.search_runs([self.id], f"tags.`{PARENT}` = '{parent_id}'", max_results=1):
                self.client.delete_run(parent_id)

    def show_report(self, study: Group, files: list[Path]) -> None:
        """Upload a study's tables and figures to its parent run, each once per content."""
        run = self.runs[parent_of(study)]
        sent = json.loads(run.data.tags.get("ris.report", "{}"))
        found = {path.name: digest(path.read_bytes()) for path in files}
        for path in files:
            if sent.get(path.name) != found[path.name]:
                self.client.log_artifact(run.info.run_id, str(path), "report")
        if found:
            self.tag(run, {"ris.report": json.dumps(found)})

    def show_parent(self, name: str, entries: list[Entry]) -> None:
        """Show progress on a parent run, and the mean of its finished children if they differ in their seed alone."""
        done = [entry for entry in entries if entry.state == "done"]
        states = {entry.state for entry in entries}
        run = self.runs.get(name) or self.create(name, time.time(), {"ris.parent": name})
        tags = {
            **{
                name: value
                for name, value in entries[0].identity().items()
                if all(e.identity()[name] == value for e in entries)
            },
            "ris.groups": name.removeprefix("study ") if name.startswith("study ") else _first_group(entries[0]),
            "ris.status": next(
                state for state in ("running", "failed", "planned", "done", "pruned") if state in states
            ),
            "ris.done": f"{len(done)}/{len(entries)}",
        }
        self.tag(run, tags)
        ends = [entry.end for entry in entries if entry.end is not None]
        state = tags["ris.status"]
        self.set_state(run, state, max(ends) if state in ("done", "failed", "pruned") else None)
        if not done or len({entry.spec.without_seed() for entry in entries}) > 1:
            return
        numbers: dict[str, list[float]] = defaultdict(list)
        for entry in done:
            for metric, value in final_metrics(entry.run).items():
                if metric.startswith(("test/", "selected/")):
                    numbers[metric].append(value)
        now = milliseconds(time.time())
        means = {metric: sum(values) / len(values) for metric, values in numbers.items() if len(values) == len(done)}
        new = [Metric(metric, mean, now, 0) for metric, mean in means.items() if run.data.metrics.get(metric) != mean]
        for batch in _batches(new, METRICS_AT_ONCE):
            self.client.log_batch(run.info.run_id, metrics=batch)


def _first_group(entry: Entry) -> str:
    return entry.groups[0].name if entry.groups else ""


def _by_parent(entries: list[Entry]) -> dict[str, list[Entry]]:
    """Return parent run -> its runs; a study's are all of its runs, those that are shown under a preset too."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        studies = [parent_of(group) for group in entry.groups if group.kind == "study"]
        for name in dict.fromkeys([entry.parent, *studies]):
            found[name].append(entry)
    return found


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


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
        raise UserError(f"there is no folder {runs}: give the runs' folder with --runs, or start some first.")
    uri = uri or default_uri(runs)
    location = None if uri.startswith(("http:", "https:")) else artifact_folder(runs, uri)
    summary = Summary()
    with _readable_errors(uri), _lock(runs, uri):
        of_run: dict[str, list[Group]] = defaultdict(list)
        for group in read_groups(runs):
            for key in group.keys:
                of_run[key].append(group)
        experiments: dict[str, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
        for run in all_runs(runs):
            with _named(run.key, summary), reading(run):
                entry = Entry(run, of_run[run.key])
                experiments[entry.spec.dataset][entry.parent].append(entry)
        client = _client(uri)
        if not experiments:
            client.search_experiments(max_results=1)  # a wrong address shows before there is anything to send
        for dataset, parents in sorted(experiments.items()):
            experiment = Experiment(client, dataset, location)
            for entries in parents.values():
                for entry in entries:
                    with _named(entry.run.key, summary):
                        what = experiment.show(entry)
                        setattr(summary, what, getattr(summary, what) + 1)
            shown = [entry for entries in parents.values() for entry in entries if entry.run.key not in summary.failed]
            for name, entries in _by_parent(shown).items():
                experiment.show_parent(name, entries)
            for group in {
                group.name: group for entry in shown for group in entry.groups if group.kind == "study"
            }.values():
                experiment.show_report(group, study_report(runs, group))
    return summary


def ui_command(runs: Path, uri: str | None = None, host: str = "127.0.0.1", port: int = 5000) -> list[str]:
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
    return [sys.executable, "-m", "mlflow", "server", *place, "--host", host, "--port", str(port), "--workers", "1"]
