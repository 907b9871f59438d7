"""What a store should show of a run directory.

It is read from the directory alone, so nothing here imports MLflow.
"""

import contextlib
import functools
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base.errors import UserError
from benchmark.evaluation import metrics
from benchmark.runs.groups import Group
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec

ARTIFACTS = (
    "spec.yaml",
    "environment.json",
    "result.json",
    "images/*.png",
    "records/*.parquet",
    "robustness/*/metrics.json",
)
TEXT_CHARACTERS = 6000  # MLflow's limit for a parameter or a tag


class Point(NamedTuple):
    """One value of a metric.

    Attributes:
        name: of the metric.
        value: of the metric.
        written: when it was written, in milliseconds since the epoch.
        step: of the optimizer.
    """

    name: str
    value: float
    written: int
    step: int


@contextlib.contextmanager
def reading(run: RunDir) -> Iterator[None]:
    """Turn what a damaged run directory can raise into a UserError.

    It stands around reading alone, so that it does not catch what the store can raise.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise UserError(
            f"{run.path} is damaged ({error}): delete what is damaged and start the run again."
        ) from None


@functools.cache
def _spec(path: Path) -> RunSpec:
    """Return a run's spec. It never changes, because its digest names the folder, so it is kept."""
    return RunDir(path).spec()


def storable(name: str) -> str:
    """Return a name as MLflow takes it. It must not hold the plus of `refcoco+`."""
    return name.replace("+", "plus")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested values as dotted name -> text, cut to MLflow's limit."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{storable(name)}.")
        else:
            flat[prefix + storable(name)] = (
                value if isinstance(value, str) else json.dumps(value)
            )[:TEXT_CHARACTERS]
    return flat


def final_metrics(run: RunDir) -> dict[str, float]:
    """Return the reported numbers of a run.

    They are called `selected/<split>/...` for the split that chose the epoch, `test/<split>/...`
    for other splits, `timing/...`, and as `robustness_metrics` says.
    """
    result = run.read_json("result.json")
    selected = result.pop("selected", {})
    final = {"selected/epoch": selected.get("epoch")}
    for split, numbers in result.items():
        part = "selected" if split == selected.get("split") else "test"
        split = storable(split)
        final |= {f"{part}/{split}/{name}": value for name, value in numbers.items()}
    final |= {f"timing/{name}": value for name, value in run.read_json("timing.json").items()}
    final |= robustness_metrics(run)
    return {name: float(value) for name, value in final.items() if value is not None}


def robustness_metrics(run: RunDir) -> dict[str, float | None]:
    """Return the numbers of a run under every condition that it was evaluated under.

    They are called `robust/<split>/<corruption>/<severity>/...`,
    `robust/<split>/<occlusion target>/<percent>/...` and `robust/<split>/words/...`.
    """
    found = {}
    for path in sorted(run.path.glob("robustness/*/metrics.json")):
        split = path.parent.name
        for condition, numbers in run.read_json(f"robustness/{split}/metrics.json").items():
            place = "/".join(filter(None, condition.rpartition("-")[::2]))
            # What may be judged is enough: there may be a hundred conditions.
            for metric in metrics.judged():
                found[f"robust/{split}/{place}/{metric.name}"] = numbers.get(metric.name)
    return found


def milliseconds(seconds: float) -> int:
    """Return seconds as whole milliseconds, as MLflow counts time."""
    return int(1000 * seconds)


def digest(content: bytes) -> str:
    """Return a sha256 of a content, 12 hex digits."""
    return hashlib.sha256(content).hexdigest()[:12]


def parent_of(study: Group) -> str:
    """Return the name of a study's parent run."""
    return f"study {study.name}"


def study_report(runs: Path, group: Group) -> list[Path]:
    """Return the files of a study's report. There is none if `group` is no study."""
    folder = runs / "studies" / group.name / "report"
    return sorted(
        path for path in folder.glob("*") if path.suffix in (".md", ".csv", ".png", ".yaml")
    )


class Entry:
    """A run directory as it is now.

    Args:
        run: the directory.
        groups: the groups that the run belongs to, presets before studies.

    Raises:
        UserError, OSError, ValueError: the directory is damaged. `reading` makes one error of them.
    """

    def __init__(self, run: RunDir, groups: list[Group]) -> None:
        self.run, self.groups, self.spec, self.status = run, groups, _spec(run.path), run.status()
        self.trials = ", ".join(
            f"{group.name} {number}" for group in groups for number in group.trials.get(run.key, ())
        )
        self.state: str = self.status.state
        look = [
            self.state,
            self.status.reason or None,
            [group.name for group in groups],
            self.trials,
        ]
        for name in ("metrics.jsonl", "timing.json", *ARTIFACTS):
            for path in sorted(run.path.glob(name)):
                stat = path.stat()
                look.append((str(path.relative_to(run.path)), stat.st_size, stat.st_mtime_ns))
        self.stamp = digest(json.dumps(look).encode())

    @property
    def parent(self) -> str:
        """The name of the parent run.

        A study has one parent. A preset has one for each method, variant and strategy.
        """
        if self.groups and self.groups[0].kind == "study":
            return parent_of(self.groups[0])
        # MLflow's table shows some eighteen characters, so what is compared comes first.
        group = f" ({self.groups[0].name})" if self.groups else ""
        return f"{self.spec.method} {self.spec.strategy.name} {self.spec.variant}{group}"

    @property
    def end(self) -> int | None:
        """The time at which the run ended, in milliseconds, or None while it goes on."""
        return (
            milliseconds(self.status.heartbeat)
            if self.state in ("done", "failed", "pruned")
            else None
        )

    def identity(self) -> dict[str, str]:
        """Return the tags that a parent shares with its children."""
        spec = self.spec
        names = {
            "method": spec.method,
            "variant": spec.variant,
            "strategy": spec.strategy.name,
            "dataset": spec.dataset,
        }
        return {f"ris.{name}": value for name, value in names.items()}

    def tags(self) -> dict[str, str]:
        """Return all tags except those that say what was sent."""
        git = self.run.read_json("environment.json").get("git", {})
        return {
            "ris.key": self.run.key,
            **self.identity(),
            "ris.seed": str(self.spec.seed),
            "ris.status": self.state,
            "ris.reason": self.status.reason[:TEXT_CHARACTERS],
            "ris.groups": ",".join(group.name for group in self.groups),
            "ris.trials": self.trials[:TEXT_CHARACTERS],
            **{f"git.{name}": str(value) for name, value in git.items()},
            "data.sha256": self.spec.data_sha256,
        }

    def points(self, last: dict[str, int], values: dict[str, float]) -> list[Point]:
        """Return the points that a store lacks.

        Args:
            last: metric -> last step that the store has.
            values: metric -> last value that the store has.
        """
        lines, points = self.run.metrics(), []
        # Lines carry no time of their own. During a run the file's is right to a few seconds.
        written = milliseconds((self.run.path / "metrics.jsonl").stat().st_mtime) if lines else 0
        for line in lines:
            for name, value in line.items():
                if (
                    name not in ("step", "epoch")
                    and value is not None
                    and line["step"] > last.get(name, -1)
                ):
                    points.append(Point(name, value, written, line["step"]))
        step, now = (lines[-1]["step"] if lines else 0), milliseconds(time.time())
        final = final_metrics(self.run).items()
        return points + [
            Point(name, value, now, step) for name, value in final if values.get(name) != value
        ]

    def artifacts(self) -> dict[str, str]:
        """Return path in the run directory -> digest for every file that is shown."""
        paths = [path for pattern in ARTIFACTS for path in sorted(self.run.path.glob(pattern))]
        return {str(path.relative_to(self.run.path)): digest(path.read_bytes()) for path in paths}
