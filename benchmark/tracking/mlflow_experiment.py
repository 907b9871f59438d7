"""One data set in MLflow: its experiment, its parent runs and their children."""

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

from benchmark.runs.groups import Group
from benchmark.tracking.projection import (
    TEXT_CHARACTERS,
    Entry,
    digest,
    final_metrics,
    flatten,
    milliseconds,
    parent_of,
    reading,
)

STATUS = {
    "planned": "SCHEDULED",
    "running": "RUNNING",
    "done": "FINISHED",
    "failed": "FAILED",
    "pruned": "KILLED",
}
# These are MLflow's limits for one request.
METRICS_AT_ONCE = 1000
PARAMS_AT_ONCE = 100
PARENT = "mlflow.parentRunId"


class Experiment:
    """One data set in the store.

    Args:
        client: of the store.
        name: of the data set. The experiment is made if it is not there.
        artifacts: folder of the artifacts, or None if a server keeps them.

    Attributes:
        runs: the MLflow runs that are there, by their tag ris.key or ris.parent.
    """

    def __init__(self, client: MlflowClient, name: str, artifacts: Path | None) -> None:
        self.client = client
        existing = client.get_experiment_by_name(name)
        if existing and existing.lifecycle_stage == "deleted":
            client.restore_experiment(existing.experiment_id)
        location = (artifacts / name).as_uri() if artifacts else None
        self.id = existing.experiment_id if existing else client.create_experiment(name, location)
        self.runs: dict[str, Run] = {}
        for run in self.search():
            name = run.data.tags.get("ris.key") or run.data.tags.get("ris.parent")
            if name in self.runs:
                # Two machines made it at once, or a restored experiment brought it back.
                client.delete_run(run.info.run_id)
            elif name:
                self.runs[name] = run

    def search(self) -> list[Run]:
        """Return all runs, the oldest first."""
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.id], max_results=1000, order_by=["start_time ASC"], page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def create(self, name: str, start: float, tags: dict[str, str]) -> Run:
        """Create and return a run that started at `start`, in seconds since the epoch."""
        self.runs[name] = self.client.create_run(self.id, milliseconds(start), tags, name)
        return self.runs[name]

    def tag(self, run: Run, tags: dict[str, str]) -> None:
        """Set the tags that differ. An empty value is set only where there was another one."""
        new = [
            RunTag(name, value)
            for name, value in tags.items()
            if run.data.tags.get(name, "") != value
        ]
        if new:
            self.client.log_batch(run.info.run_id, tags=new)

    def set_state(self, run: Run, state: str, end: int | None) -> None:
        """Set status and end time, in milliseconds, if they differ."""
        if end is not None and (run.info.status, run.info.end_time) != (STATUS[state], end):
            self.client.set_terminated(run.info.run_id, STATUS[state], end)
        elif end is None and run.info.status != STATUS[state]:
            self.client.update_run(run.info.run_id, STATUS[state])

    def show(self, entry: Entry) -> str:
        """Show a run directory and return what that took: `created`, `updated` or `unchanged`."""
        shown = self.runs.get(entry.run.key)
        parent = self.runs.get(entry.parent)
        old_tags: dict[str, str] = {}
        last_steps: dict[str, int] = {}
        last_values: dict[str, float] = {}
        if shown:
            old_tags = shown.data.tags
            last_steps = {metric.key: metric.step for metric in shown.data.to_proto().metrics}
            last_values = shown.data.metrics
        has_parent = parent is not None and old_tags.get(PARENT) == parent.info.run_id
        if has_parent and old_tags.get("ris.stamp") == entry.stamp:
            return "unchanged"
        # The whole directory is read first, so that no part of a damaged one reaches the store.
        with reading(entry.run):
            points = [Metric(*point) for point in entry.points(last_steps, last_values)]
            tags = entry.tags()
            artifacts = entry.artifacts()
            planned = (entry.run.path / "spec.yaml").stat().st_mtime
        if parent is None:
            parent = self.create(entry.parent, planned, {"ris.parent": entry.parent})
        tags[PARENT] = parent.info.run_id
        run = shown
        if run is None:
            own_tags = {"ris.key": entry.run.key, PARENT: tags[PARENT]}
            run = self.create(entry.run.key, planned, own_tags)
        self.tag(run, tags)
        self._log(run, entry, points)
        self._upload(run, entry, artifacts, json.loads(old_tags.get("ris.artifacts", "{}")))
        self.set_state(run, entry.state, entry.end)
        # The stamp comes last. An interrupted sync leaves the old one, so the next sync goes on.
        digests = json.dumps(artifacts)
        if len(digests) > TEXT_CHARACTERS:
            digests = "{}"
        self.tag(run, {"ris.artifacts": digests, "ris.stamp": entry.stamp})
        if shown and old_tags.get(PARENT) != tags[PARENT]:
            self.leave(old_tags.get(PARENT, ""))
        return "updated" if shown else "created"

    def _log(self, run: Run, entry: Entry, points: list[Metric]) -> None:
        """Send the parameters that a run lacks, and the points of its metrics."""
        params = [
            Param(name, value)
            for name, value in flatten(entry.spec.model_dump(mode="json")).items()
            if name not in run.data.params
        ]
        for batch in _batches(params, PARAMS_AT_ONCE):
            self.client.log_batch(run.info.run_id, params=batch)
        for batch in _batches(points, METRICS_AT_ONCE):
            self.client.log_batch(run.info.run_id, metrics=batch)

    def _upload(
        self, run: Run, entry: Entry, artifacts: dict[str, str], sent: dict[str, str]
    ) -> None:
        """Upload the files whose digest differs from the one that was sent."""
        for path, content_digest in artifacts.items():
            if sent.get(path) != content_digest:
                folder = os.path.dirname(path) or None
                self.client.log_artifact(run.info.run_id, str(entry.run.path / path), folder)

    def leave(self, parent_id: str) -> None:
        """Delete a parent whose last child went to another one."""
        name = next(
            (name for name, run in self.runs.items() if run.info.run_id == parent_id), "study"
        )
        # The parent of a study holds its report and stays. Its runs may be shown elsewhere.
        if name.startswith("study"):
            return
        children = f"tags.`{PARENT}` = '{parent_id}'"
        if not self.client.search_runs([self.id], children, max_results=1):
            self.client.delete_run(parent_id)

    def show_report(self, study: Group, files: list[Path]) -> None:
        """Upload a study's tables and figures to its parent run, each once per content."""
        run = self.runs[parent_of(study)]
        sent = json.loads(run.data.tags.get("ris.report", "{}"))
        digests = {path.name: digest(path.read_bytes()) for path in files}
        for path in files:
            if sent.get(path.name) != digests[path.name]:
                self.client.log_artifact(run.info.run_id, str(path), "report")
        if digests:
            self.tag(run, {"ris.report": json.dumps(digests)})

    def show_parent(self, name: str, entries: list[Entry]) -> None:
        """Show the progress of a parent's children, and their mean if only their seeds differ."""
        done = [entry for entry in entries if entry.state == "done"]
        states = {entry.state for entry in entries}
        order = ("running", "failed", "planned", "done", "pruned")
        state = next(state for state in order if state in states)
        run = self.runs.get(name) or self.create(name, time.time(), {"ris.parent": name})
        if name.startswith("study "):
            group = name.removeprefix("study ")
        else:
            group = entries[0].groups[0].name if entries[0].groups else ""
        shared = {
            tag: value
            for tag, value in entries[0].identity().items()
            if all(entry.identity()[tag] == value for entry in entries)
        }
        progress = {
            "ris.groups": group,
            "ris.status": state,
            "ris.done": f"{len(done)}/{len(entries)}",
        }
        self.tag(run, shared | progress)
        ends = [entry.end for entry in entries if entry.end is not None]
        self.set_state(run, state, max(ends) if state in ("done", "failed", "pruned") else None)
        if done and len({entry.spec.without_seed() for entry in entries}) == 1:
            self._log_means(run, done)

    def _log_means(self, run: Run, done: list[Entry]) -> None:
        """Send the means over finished runs of every metric that all of them have."""
        numbers: dict[str, list[float]] = defaultdict(list)
        for entry in done:
            for metric, value in final_metrics(entry.run).items():
                if metric.startswith(("test/", "selected/")):
                    numbers[metric].append(value)
        now = milliseconds(time.time())
        means = {
            metric: sum(values) / len(values)
            for metric, values in numbers.items()
            if len(values) == len(done)
        }
        new = [
            Metric(metric, mean, now, 0)
            for metric, mean in means.items()
            if run.data.metrics.get(metric) != mean
        ]
        for batch in _batches(new, METRICS_AT_ONCE):
            self.client.log_batch(run.info.run_id, metrics=batch)


def by_parent(entries: list[Entry]) -> dict[str, list[Entry]]:
    """Return parent run -> its runs.

    A study has all of its runs, with those that are shown under a preset.
    """
    children: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        studies = [parent_of(group) for group in entry.groups if group.kind == "study"]
        for name in dict.fromkeys([entry.parent, *studies]):
            children[name].append(entry)
    return children


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
