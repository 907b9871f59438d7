"""Shows run directories in MLflow.

The directories are the truth. What MLflow holds can be lost, and `sync` makes it again.

An experiment is a data set. A parent run is a study, or a preset's method, variant and strategy. A
child is one run directory, which is found again by its key and never by an MLflow id. A run of
several groups is shown once, under the first of them (presets before studies), and tagged with all.
Its tag `ris.trials` names the trials of searches that it is.

A repeated or interrupted sync does no harm, for these reasons:

- The ledger says what the last pass has shown, and the store says whether it is still so. A pass
  therefore asks the store for nothing but what changed (see `ledger`).
- A run's stamp says what the directory looked like. It is written last, together with the last of
  the numbers, and a run whose stamp fits is left alone.
- Only the steps of a metric beyond its last one are sent. A resumed run drops the lines beyond its
  resume point and makes them again, but an epoch is sent once it is complete.
- A file is uploaded once per content.
- Each store has a lock, so a second sync waits for the first.
"""

import contextlib
import functools
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from mlflow.exceptions import MlflowException

from benchmark.base.addresses import masked
from benchmark.base.errors import UserError
from benchmark.base.locks import locked
from benchmark.launch.jobs import PYTHON
from benchmark.runs.groups import Group, members, read_groups
from benchmark.runs.rundir import all_runs
from benchmark.tracking import ledger
from benchmark.tracking.group_report import GroupReport, ReportMaker
from benchmark.tracking.ledger import Page
from benchmark.tracking.mlflow_client import (
    artifact_folder,
    client_of,
    database_file,
    default_uri,
    for_mlflow,
    is_server,
    readable_errors,
)
from benchmark.tracking.mlflow_experiment import Content, Experiment, by_parent
from benchmark.tracking.mlflow_models import best_of, model_name, register
from benchmark.tracking.plan import Plan
from benchmark.tracking.projection import Entry, reading
from benchmark.tracking.tracker import Summary, Tracker


def _lock_file(runs: Path, uri: str) -> Path:
    """Return the file that a sync holds while it writes to a store."""
    file = database_file(uri)
    if file:
        return file.with_name(f"{file.name}.lock")
    # Without the password, of which even a digest tells something, and which may change.
    return runs / f".sync-{hashlib.sha256(masked(uri).encode()).hexdigest()[:10]}.lock"


@contextlib.contextmanager
def _lock(runs: Path, uri: str) -> Iterator[None]:
    """Hold the store, after waiting for any other sync of this machine."""
    with locked(_lock_file(runs, uri)):
        yield


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


def sync(
    runs: Path,
    uri: str | None = None,
    reports: ReportMaker | None = None,
    later: bool = False,
) -> Summary:
    """Make the store show what the run directories hold, and return what that took.

    Args:
        runs: folder of the run directories.
        uri: tracking address, `default_uri` by default.
        reports: makes the notes, aggregates and figures of groups. Without it there are none.
        later: whether reports may stay as they are, for a later call.

    Raises:
        UserError: there is no such folder, or the store cannot be used. Nothing is lost then, and a
            later sync goes on.
    """
    if not runs.is_dir():
        raise UserError(
            f"there is no folder {runs}: give the runs' folder with --runs, or start some first."
        )
    uri = uri or default_uri(runs)
    location = None if is_server(uri) else artifact_folder(runs, uri)
    summary = Summary()
    with readable_errors(uri), _lock(runs, uri):
        groups = read_groups(
            runs, lambda name, error: summary.failed.update({f"plan {name}": str(error)})
        )
        groups_of = members(groups)
        entries: list[Entry] = []
        for run in all_runs(runs):
            with _named(run.key, summary), reading(run):
                entries.append(Entry(run, groups_of.get(run.key, [])))
        client = client_of(uri)
        if not entries:
            # A wrong address is reported although there is nothing to send yet.
            client.search_experiments(max_results=1)
        book = _lock_file(runs, uri).with_suffix(".ledger.json")
        pages = ledger.read(book)
        plans = {its.name: Plan.of(its, runs, entries, reports) for its in groups}
        report_of = functools.cache(lambda name: _report(plans[name].group, reports, summary))
        for dataset, own in sorted(_by_dataset(entries, pages, summary).items()):
            experiment = Experiment(client, dataset, location, pages.get(dataset, Page()))
            pages[dataset] = experiment.page
            if _show_dataset(experiment, own, plans, report_of, later, summary):
                ledger.write(book, pages)
                experiment.end()
    return summary


def _by_dataset(
    entries: list[Entry], pages: dict[str, Page], summary: Summary
) -> dict[str, list[Entry]]:
    """Return data set -> runs. The spec says it, and the ledger says it sooner."""
    known = {key: dataset for dataset, page in pages.items() for key in page.looks}
    found: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        with _named(entry.run.key, summary), reading(entry.run):
            found[known.get(entry.run.key) or entry.spec.dataset].append(entry)
    return found


def _report(group: Group, reports: ReportMaker | None, summary: Summary) -> GroupReport | None:
    """Return the report of a group. What keeps it from being made is noted."""
    if reports is None:
        return None
    with _named(f"report of {group.name}", summary):
        return reports.make(group)
    return None


def _show_dataset(
    experiment: Experiment,
    entries: list[Entry],
    plans: dict[str, Plan],
    report_of: Callable[[str], GroupReport | None],
    later: bool,
    summary: Summary,
) -> bool:
    """Show what changed of a data set, and return whether anything had.

    Parents come first, then runs, what the reports say, and the best models.
    """
    page = experiment.page
    groups = list(dict.fromkeys(group.name for entry in entries for group in entry.groups))
    changed = [entry for entry in entries if page.looks.get(entry.run.key) != entry.look]
    stale = [name for name in groups if page.reports.get(name) != plans[name].stamp]
    stale = [] if later else stale
    summary.unchanged += len(entries) - len(changed)
    if not changed and not stale and not page.waiting:
        return False
    experiment.begin()
    # Each directory is read as a whole first, so that no part of a damaged one reaches the store.
    contents = []
    for entry in changed:
        with _named(entry.run.key, summary), reading(entry.run):
            contents.append(Content.of(entry))
    whole = [entry for entry in entries if entry.run.key not in summary.failed]
    touched = {name for content in contents for name in content.entry.parents}
    parents = {
        name: parent
        for name, parent in by_parent(whole).items()
        if name in touched or (parent.group and parent.group.name in stale)
    }
    before = dict(page.ids)
    for parent in parents.values():
        experiment.show_parent(parent)
    # A parent that is another run now takes over the children that did not change.
    anew = {name for name in parents if page.ids[name] != before.get(name)} & before.keys()
    read = {content.entry.run.key for content in contents}
    for entry in whole:
        if entry.run.key not in read and entry.parents[0] in anew:
            with _named(entry.run.key, summary), reading(entry.run):
                contents.append(Content.of(entry))
                summary.unchanged -= 1
    for content in contents:
        with _named(content.entry.run.key, summary):
            result = experiment.show(content)
            setattr(summary, result, getattr(summary, result) + 1)
    for name in stale:
        own = sorted(its.name for its in parents.values() if its.group and its.group.name == name)
        report = report_of(name)
        experiment.show_group(plans[name], own, report)
        if f"report of {name}" not in summary.failed:
            page.reports[name] = plans[name].stamp
    families = {model_name(content.entry) for content in contents} | {*page.waiting}
    page.waiting = []
    for name, entry in best_of(entry for entry in whole if model_name(entry) in families).items():
        try:
            register(experiment.client, experiment.id, name, entry, page.ids[entry.run.key])
        except UserError as error:
            summary.unregistered[name] = str(error)
            page.waiting.append(name)
    return True


def ui_command(
    runs: Path, uri: str | None = None, host: str = "127.0.0.1", port: int = 5000
) -> tuple[list[str], dict[str, str]]:
    """Return the command line of MLflow's user interface on a store, and its environment.

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
    if is_server(uri):
        raise UserError(f"{masked(uri)} is a running server: open it in a browser.")
    file = database_file(uri)
    if file and not file.exists():
        raise UserError(f"there is no database {file} yet: `risbench sync` makes it.")
    command = [*PYTHON, "mlflow", "server", "--workers", "1"]
    command += ["--artifacts-destination", str(artifact_folder(runs, uri))]
    command += ["--host", host, "--port", str(port)]
    return command, {"MLFLOW_BACKEND_STORE_URI": for_mlflow(uri)}


class MlflowTracker(Tracker):
    """MLflow, which keeps a database in the folder of the runs or is behind a server."""

    first_clicks = (
        'click "Model training" at the top left (MLflow remembers it),',
        "then a data set, which is an experiment, whose note holds the comparison,",
        'then a run such as "lavt +MaskRIS tiny", whose description compares it with the baseline.',
    )

    def sync(
        self,
        runs: Path,
        address: str | None = None,
        reports: ReportMaker | None = None,
        later: bool = False,
    ) -> Summary:
        """Make the store show the run directories, as the function `sync` does."""
        return sync(runs, address, reports, later)

    def ui_command(
        self, runs: Path, address: str | None, host: str, port: int
    ) -> tuple[list[str], dict[str, str]]:
        """Return how the user interface is started, as the function `ui_command` does."""
        return ui_command(runs, address, host, port)

    def fetched(self, address: str) -> contextlib.AbstractContextManager[Path]:
        """Give a folder that holds what the store shows, as `mlflow_fetch.fetched` does."""
        from benchmark.tracking.mlflow_fetch import fetched

        return fetched(address)


TRACKER = MlflowTracker()
