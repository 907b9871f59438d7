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
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # MLflow's limits
PARENT = "mlflow.parentRunId"


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
            if (
                name in self.runs
            ):  # two machines made it at once, or a restored experiment brought it back
                client.delete_run(run.info.run_id)
            elif name:
                self.runs[name] = run

    def search(self) -> list[Run]:
        """Return all runs, oldest first."""
        found, page = [], None
        while True:
            runs = self.client.search_runs(
                [self.id], max_results=1000, order_by=["start_time ASC"], page_token=page
            )
            found, page = found + list(runs), runs.token
            if not page:
                return found

    def create(self, name: str, start: float, tags: dict[str, str]) -> Run:
        """Create and return a run; `start` in seconds."""
        self.runs[name] = self.client.create_run(self.id, milliseconds(start), tags, name)
        return self.runs[name]

    def tag(self, run: Run, tags: dict[str, str]) -> None:
        """Set the tags that differ; an empty value is set only where there was one."""
        new = [
            RunTag(name, value)
            for name, value in tags.items()
            if run.data.tags.get(name, "") != value
        ]
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
        if (
            before.get("ris.stamp") == entry.stamp
            and parent
            and before.get(PARENT) == parent.info.run_id
        ):
            return "unchanged"
        last = (
            {metric.key: metric.step for metric in shown.data.to_proto().metrics} if shown else {}
        )
        with reading(entry.run):
            points = [
                Metric(*point) for point in entry.points(last, shown.data.metrics if shown else {})
            ]
            tags, artifacts = entry.tags(), entry.artifacts()
            planned = (entry.run.path / "spec.yaml").stat().st_mtime
        parent_id = (
            parent or self.create(entry.parent, planned, {"ris.parent": entry.parent})
        ).info.run_id
        run = shown or self.create(
            entry.run.key, planned, {"ris.key": entry.run.key, PARENT: parent_id}
        )
        tags[PARENT] = parent_id
        self.tag(run, tags)
        params = flatten(entry.spec.model_dump(mode="json")).items()
        for batch in _batches(
            [Param(*param) for param in params if param[0] not in run.data.params], PARAMS_AT_ONCE
        ):
            self.client.log_batch(run.info.run_id, params=batch)
        for batch in _batches(points, METRICS_AT_ONCE):
            self.client.log_batch(run.info.run_id, metrics=batch)
        sent = json.loads(before.get("ris.artifacts", "{}"))
        for path, content in artifacts.items():
            if sent.get(path) != content:
                self.client.log_artifact(
                    run.info.run_id, str(entry.run.path / path), os.path.dirname(path) or None
                )
        self.set_state(run, entry.state, entry.end)
        digests = json.dumps(artifacts)
        self.tag(
            run,
            {
                "ris.artifacts": digests if len(digests) <= TEXT_CHARACTERS else "{}",
                "ris.stamp": entry.stamp,
            },
        )
        if shown and before.get(PARENT) != parent_id:
            self.leave(before.get(PARENT, ""))
        return "updated" if shown else "created"

    def leave(self, parent_id: str) -> None:
        """Delete a parent whose last child went to another one."""
        left = next(
            (name for name, run in self.runs.items() if run.info.run_id == parent_id), "study"
        )
        if not left.startswith(
            "study"
        ):  # a study's own, which holds its report, may have runs that are shown elsewhere
            if not self.client.search_runs(
                [self.id], f"tags.`{PARENT}` = '{parent_id}'", max_results=1
            ):
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
            "ris.groups": name.removeprefix("study ")
            if name.startswith("study ")
            else _first_group(entries[0]),
            "ris.status": next(
                state
                for state in ("running", "failed", "planned", "done", "pruned")
                if state in states
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


def _first_group(entry: Entry) -> str:
    return entry.groups[0].name if entry.groups else ""


def by_parent(entries: list[Entry]) -> dict[str, list[Entry]]:
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
