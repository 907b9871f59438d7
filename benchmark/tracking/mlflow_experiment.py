"""One data set in MLflow: its experiment, its parent runs and their children."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.tracking import MlflowClient

from benchmark.base.errors import UserError
from benchmark.runs.groups import Group
from benchmark.tracking.group_report import GroupReport, ParentReport
from benchmark.tracking.ledger import Page
from benchmark.tracking.mlflow_files import (
    drop_others,
    image_contents,
    part_digest,
    put,
    put_contents,
)
from benchmark.tracking.mlflow_notes import addressed, cut
from benchmark.tracking.plan import Plan
from benchmark.tracking.projection import OVER, Entry, Input, Point, digest, inputs, parameters

STATUS = {
    "planned": "SCHEDULED",
    "running": "RUNNING",
    "done": "FINISHED",
    "failed": "FAILED",
    "pruned": "KILLED",
}
# MLflow takes a thousand metrics, parameters and tags in one request, of the latter a hundred each.
METRICS_AT_ONCE = 800
ENTITIES_AT_ONCE = 100
EXPERIMENT_NOTE_CHARACTERS = 20_000
NOTE_CHARACTERS = 8000  # MLflow's limit for a tag

# What is shown of a run changed with this version. A store of an earlier one is made again.
VERSION = "2"
ORDER = ("running", "failed", "planned", "done", "pruned")
IMAGES = "images"  # where MLflow's charts look for them
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
# MLflow's pages hide tags that begin with its name, and nobody wants to read these.
NAME = "mlflow.risbench.name"
STAMP = "mlflow.risbench.stamp"
SENT = "mlflow.risbench.sent"
LEDGER = "mlflow.risbench.ledger"
MADE_BY = "mlflow.risbench.version"
SOURCE = {"mlflow.source.name": "risbench", "mlflow.source.type": "LOCAL"}
# It lets MLflow open the experiment with its runs. Without it, it opens an overview of language
# models. Versions that have a switch for it in the margin follow the switch alone.
KIND = {"mlflow.experimentKind": "custom_model_development"}


class Parent(NamedTuple):
    """A run that others are shown under.

    Attributes:
        name: its name.
        group: the group that it is of, if it is of one.
        entries: its runs.
    """

    name: str
    group: Group | None
    entries: list[Entry]


class Content(NamedTuple):
    """All that a store shows of a run directory, read before any of it is sent.

    Attributes:
        entry: the directory.
        points: of its metrics.
        params: name -> value.
        tags: name -> value.
        inputs: splits of data that it used.
        parts: part -> digest of its files, and files.
        images: name -> content of overlays.
    """

    entry: Entry
    points: list[Point]
    params: dict[str, str]
    tags: dict[str, str]
    inputs: list[Input]
    parts: dict[str, tuple[str, list[Path]]]
    images: dict[str, bytes]

    @classmethod
    def of(cls, entry: Entry) -> "Content":
        """Read a directory. Raises what `reading` turns into one error."""
        parts = {part: (part_digest(paths), paths) for part, paths in entry.files().items()}
        images = entry.images()
        if images:
            parts[IMAGES] = (part_digest(images), images)
        points = entry.points()
        selected = [int(point.value) for point in points if point.name == "val/selected/epoch"]
        return cls(
            entry,
            points,
            parameters(entry.spec),
            entry.tags(),
            inputs(entry.run, entry.spec),
            parts,
            image_contents(images, *selected or [0]),
        )


class Experiment:
    """One data set in the store.

    Args:
        client: of the store.
        name: of the data set. The experiment is made if it is not there.
        artifacts: folder of the artifacts, or None if a server keeps them.
        page: what the ledger says of it.

    Attributes:
        page: the same, or an empty page where the store is not as the ledger says.
    """

    def __init__(self, client: MlflowClient, name: str, artifacts: Path | None, page: Page) -> None:
        self.client = client
        self.name = name
        existing = client.get_experiment_by_name(name)
        if existing and existing.lifecycle_stage == "deleted":
            client.restore_experiment(existing.experiment_id)
        if (
            existing
            and existing.tags.get(MADE_BY) != VERSION
            and client.search_runs([existing.experiment_id], max_results=1)
        ):
            ours = "tags.`ris.key` != ''"
            others = client.search_runs([existing.experiment_id], ours, max_results=1)
            if not others:
                raise UserError(
                    f"the store holds an experiment '{name}' that is not of this suite: rename it"
                    " there, or give another store with --uri."
                )
            # Its runs show other things under other names. They stay among the deleted ones.
            aside = f"{name} before {VERSION} ({existing.experiment_id})"
            client.rename_experiment(existing.experiment_id, aside)
            client.delete_experiment(existing.experiment_id)
            existing = None
        if existing is None:
            location = (artifacts / name).as_uri() if artifacts else None
            client.create_experiment(name, location, KIND | {MADE_BY: VERSION})
            existing = client.get_experiment_by_name(name)
        self.id = existing.experiment_id
        self.tags = existing.tags
        self.set_tags(KIND | {MADE_BY: VERSION})
        self.page = page
        self._runs: dict[str, Run] = {}
        self._restore()
        if not page.ids or self.tags.get(LEDGER) != page.digest:
            self.page = Page()
            self._find_all()

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set the tags of the experiment that differ."""
        for tag, value in tags.items():
            if self.tags.get(tag, "") != value:
                self.client.set_experiment_tag(self.id, tag, value)
                self.tags[tag] = value

    def _search(self, view: int, text: str = "") -> Iterator[Run]:
        """Yield runs, the oldest first."""
        token = None
        while True:
            page = self.client.search_runs(
                [self.id], text, view, 1000, order_by=["start_time ASC"], page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _restore(self) -> None:
        """Bring back what somebody deleted in MLflow."""
        for run in self._search(ViewType.DELETED_ONLY, f"tags.`{NAME}` != ''"):
            self.client.restore_run(run.info.run_id)

    def _find_all(self) -> None:
        """Find every run of the experiment."""
        for run in self._search(ViewType.ACTIVE_ONLY, f"tags.`{NAME}` != ''"):
            name = run.data.tags[NAME]
            if name in self._runs:
                # Two machines made it at once, or a restored experiment brought it back.
                self._forget(run.info.run_id)
            else:
                self._runs[name] = run
                self.page.ids[name] = run.info.run_id

    def _delete(self, name: str) -> None:
        self._runs.pop(name, None)
        self._forget(self.page.ids.pop(name))

    def _forget(self, run_id: str) -> None:
        """Delete a run. Without its name it is not taken for one that somebody deleted."""
        self.client.set_tag(run_id, NAME, "")
        self.client.delete_run(run_id)

    def begin(self) -> None:
        """Note in the store that its runs are no longer as the ledger says."""
        self.set_tags({LEDGER: ""})

    def end(self) -> None:
        """Note in the store that its runs are as the ledger says, which must be written before."""
        self.set_tags({LEDGER: self.page.digest})

    def run(self, name: str) -> Run | None:
        """Return the run of a run key, or the parent of this name, if it is there."""
        if name not in self._runs and name in self.page.ids:
            self._runs[name] = self.client.get_run(self.page.ids[name])
        return self._runs.get(name)

    def _create(self, name: str, shown: str, start: int, tags: Mapping[str, str]) -> Run:
        own = {NAME: name, **SOURCE, **tags}
        run = self.client.create_run(self.id, start, own, shown)
        self._runs[name] = run
        self.page.ids[name] = run.info.run_id
        return run

    def _log(
        self,
        run: Run,
        params: Mapping[str, str],
        points: Iterable[Point],
        tags: Mapping[str, str],
    ) -> None:
        """Send what a run lacks. The tags come last, with the last of the rest.

        Only the steps of a metric beyond its last one are sent, and a final number that changed.
        """
        last = {its.key: (its.step, its.value) for its in run.data.to_proto().metrics}
        new = [
            Metric(*point)
            for point in points
            if point.name not in last
            or point.step > last[point.name][0]
            or (point.step == last[point.name][0] and point.value != last[point.name][1])
        ]
        lacking = [Param(*item) for item in params.items() if item[0] not in run.data.params]
        known = run.data.tags
        other = [RunTag(*item) for item in tags.items() if known.get(item[0], "") != item[1]]
        *metrics, last_metrics = [*_batches(new, METRICS_AT_ONCE)] or [[]]
        *others, last_params = [*_batches(lacking, ENTITIES_AT_ONCE)] or [[]]
        for batch in metrics:
            self.client.log_batch(run.info.run_id, metrics=batch)
        for batch in others:
            self.client.log_batch(run.info.run_id, params=batch)
        if last_metrics or last_params or other:
            self.client.log_batch(run.info.run_id, last_metrics, last_params, other)

    def _set_state(self, run: Run, state: str, end: int | None) -> None:
        """Set status and end time, in milliseconds, if they differ."""
        if end is not None and (run.info.status, run.info.end_time) != (STATUS[state], end):
            self.client.set_terminated(run.info.run_id, STATUS[state], end)
        elif end is None and run.info.status != STATUS[state]:
            self.client.update_run(run.info.run_id, STATUS[state])

    # --- children ---------------------------------------------------------------------

    def show(self, content: Content) -> str:
        """Show a run directory and return what that took: `created`, `updated` or `unchanged`."""
        entry = content.entry
        parent = self.page.ids[entry.parents[0]]
        run = self.run(entry.run.key)
        self.page.looks[entry.run.key] = entry.look
        tags = run.data.tags if run else {}
        if tags.get(STAMP) == entry.look and tags.get(PARENT) == parent:
            return "unchanged"
        result = "updated" if run else "created"
        commit = content.tags.get("git.commit", "")
        own = content.tags | {PARENT: parent, "mlflow.source.git.commit": commit}
        if content.images:
            own["mlflow.loggedImages"] = "True"
        if run is None:
            run = self._create(entry.run.key, entry.name, entry.start, own)
        elif run.info.run_name != entry.name:
            self.client.update_run(run.info.run_id, name=entry.name)
        sent = json.loads(tags.get(SENT, "{}"))
        for part, (part_sha, paths) in content.parts.items():
            if sent.get(part) == part_sha:
                continue
            if part == IMAGES:
                put_contents(self.client, run, content.images, IMAGES)
                names = [*content.images]
            else:
                put(self.client, run, paths, part if paths[0].parent != entry.run.path else "")
                names = [path.name for path in paths]
            if part in sent and paths[0].parent != entry.run.path:
                drop_others(self.client, run, part, names)
        for part in sent.keys() - content.parts.keys():
            drop_others(self.client, run, part)
        if entry.over and not (run.inputs and run.inputs.dataset_inputs):
            self.client.log_inputs(run.info.run_id, [_input(each) for each in content.inputs])
        self._set_state(run, entry.state, entry.end)
        # The stamp comes last. An interrupted pass leaves the old one, so the next one goes on.
        own |= {SENT: json.dumps({part: its[0] for part, its in content.parts.items()})}
        self._log(run, content.params, content.points, own | {STAMP: entry.look})
        if (old := tags.get(PARENT)) and old != parent:
            self._leave(old)
        return result

    def _leave(self, parent_id: str) -> None:
        """Delete a parent that has no child any more, unless a group is shown there."""
        name = next((name for name, known in self.page.ids.items() if known == parent_id), None)
        if name is None or self.run(name).data.tags.get("ris.groups"):
            return
        children = f"tags.`{PARENT}` = '{parent_id}'"
        if not self.client.search_runs([self.id], children, max_results=1):
            self._delete(name)

    # --- parents ----------------------------------------------------------------------

    def show_parent(self, parent: Parent) -> None:
        """Show a parent, with the parameters that its children share and how far they are."""
        name, entries = parent.name, parent.entries
        every = [parameters(entry.spec) for entry in entries]
        shared = {
            param: value
            for param, value in every[0].items()
            if all(other.get(param) == value for other in every)
        }
        run = self.run(name)
        if run and not run.data.params.items() <= shared.items():
            # Parameters cannot be taken back, so a parent whose children differ is made again.
            self._delete(name)
            run = None
        run = run or self._create(name, name, min(entry.start for entry in entries), {})
        states = {entry.state for entry in entries}
        state = next(state for state in ORDER if state in states)
        done = sum(entry.state == "done" for entry in entries)
        tags = {
            "ris.groups": parent.group.name if parent.group else "",
            "ris.status": state,
            "ris.done": f"{done}/{len(entries)}",
        }
        end = max(entry.end or 0 for entry in entries) if state in OVER else None
        self._set_state(run, state, end)
        self._log(run, shared, (), tags)

    def show_report(
        self, name: str, report: ParentReport | None, plan: Mapping[str, list[Path]]
    ) -> None:
        """Show what a report says of the runs under a parent.

        Args:
            name: of the parent.
            report: of its runs, or None where there is none.
            plan: folder of artifacts -> files of the plan, without which no report can be made.
        """
        run = self.run(name)
        sent = json.loads(run.data.tags.get(SENT, "{}"))
        digests = {f"plan/{folder}": part_digest(paths) for folder, paths in plan.items()}
        for folder, paths in plan.items():
            part = f"plan/{folder}"
            if sent.get(part) != digests[part]:
                put(self.client, run, paths, part)
                if part in sent:
                    drop_others(self.client, run, part, [path.name for path in paths])
        # Where there is no report, what was said of the runs stays.
        files = {part: its for part, its in sent.items() if part.startswith("report/")}
        if report:
            files = {f"report/{file}": digest(content) for file, content in report.files.items()}
        for part in sent.keys() - digests.keys() - files.keys():
            drop_others(self.client, run, part)
        if report is None:
            self._log(run, {}, (), {SENT: json.dumps(digests | files)})
            return
        new = {
            file: content
            for file, content in report.files.items()
            if sent.get(f"report/{file}") != files[f"report/{file}"]
        }
        if new:
            put_contents(self.client, run, new, "report")
        points = [Point(*item, run.info.start_time, 0) for item in report.metrics.items()]
        note = cut(addressed(report.note, self.page.ids, self.id, name), NOTE_CHARACTERS)
        self._log(run, {}, points, {NOTE: note, SENT: json.dumps(digests | files)})

    def show_group(self, plan: Plan, parents: list[str], report: GroupReport | None) -> None:
        """Show the report of a group under its parents, and at the head of the experiment."""
        name = plan.group.name
        for parent in parents:
            said = report.parents.get((self.name, parent)) if report else None
            # One of them holds the plan. More would be no use.
            self.show_report(parent, said, plan.files if parent == parents[0] else {})
        if report and self.name in report.notes:
            self.page.notes[name] = addressed(report.notes[self.name], self.page.ids, self.id)
            note = "\n\n".join(self.page.notes.values())
            self.set_tags({NOTE: cut(note, EXPERIMENT_NOTE_CHARACTERS)})


def by_parent(entries: Iterable[Entry]) -> dict[str, Parent]:
    """Return name -> parent, with the runs of its group that are shown under another one, too."""
    parents: dict[str, Parent] = {}
    for entry in entries:
        for group, name in zip(entry.groups or [None], entry.parents, strict=True):
            parents.setdefault(name, Parent(name, group, [])).entries.append(entry)
    return parents


def _input(its: Input) -> DatasetInput:
    source = json.dumps({"uri": its.source})
    profile = json.dumps(its.profile)
    dataset = Dataset(its.name, its.digest, "local", source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", its.context)])


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
