"""What a store should show of a run directory.

It is read from the directory alone, so nothing here imports MLflow.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import methods
from benchmark.base.errors import UserError, WorldError
from benchmark.data import datasets
from benchmark.evaluation import metrics
from benchmark.runs import splits
from benchmark.runs.groups import Group
from benchmark.runs.predictions import AnySpec, PredictionsSpec
from benchmark.runs.rundir import SYSTEM_METRICS, RunDir

OVER = ("done", "failed", "pruned")
# Resume points are no result, and overlays are shown as images by epoch.
NOT_FILES = {"state", "images"}
TEXT_CHARACTERS = 6000  # MLflow's limit for a parameter


class Point(NamedTuple):
    """One value of a metric.

    Attributes:
        name: of the metric.
        value: of the metric.
        written: when it was written, in milliseconds since the epoch.
        step: the training epoch, counted from 0.
    """

    name: str
    value: float
    written: int
    step: int


class Input(NamedTuple):
    """A split of a data set that a run used.

    Attributes:
        name: data set and split.
        digest: of the data set.
        source: folder that it was read from, or "".
        context: what it was used for: train, val or test.
        profile: what is known of it, such as its number of expressions.
    """

    name: str
    digest: str
    source: str
    context: str
    profile: dict[str, Any]


@contextlib.contextmanager
def reading(run: RunDir) -> Iterator[None]:
    """Turn what a damaged run directory can raise into a UserError.

    It stands around reading alone, so that it does not catch what the store can raise.
    """
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{run.path} is damaged ({error}): delete what is damaged and start the run again."
        ) from None


def storable(name: str) -> str:
    """Return a name as MLflow takes it. It must not hold the plus of `refcoco+`."""
    return name.replace("+", "plus")


def milliseconds(seconds: float) -> int:
    """Return seconds as whole milliseconds, as MLflow counts time."""
    return int(1000 * seconds)


def digest(content: bytes) -> str:
    """Return a sha256 of a content, 12 hex digits."""
    return hashlib.sha256(content).hexdigest()[:12]


def parent_name(spec: AnySpec, group: Group | None) -> str:
    """Return the name of the run under which a group's run is shown.

    A study has one parent. A preset has one for each method, variant and strategy.
    """
    if group and group.kind == "study":
        return f"study {group.name}"
    # MLflow's table shows some eighteen characters, so what is compared comes first.
    name = " ".join(filter(None, [spec.method, spec.strategy.heading, spec.variant]))
    return f"{name} ({group.name})" if group else name


# --- metrics --------------------------------------------------------------------------------------


def epoch_points(run: RunDir, split: str, over: bool) -> list[Point]:
    """Return the logged metrics by epoch. What is logged within an epoch is averaged over it.

    Args:
        run: the run directory.
        split: the one that is evaluated after epochs.
        over: whether the last epoch that was begun counts as complete.
    """
    lines = run.metrics()
    if not lines:
        return []
    # Lines carry no time of their own. During a run the file's is right to a few seconds.
    written = milliseconds((run.path / "metrics.jsonl").stat().st_mtime)
    values: dict[tuple[int, str], list[float]] = defaultdict(list)
    complete = -1
    for line in lines:
        evaluated = any(name.startswith(f"{split}/") for name in line)
        # An epoch is complete once it is evaluated or a later one is under way.
        complete = max(complete, line["epoch"] if evaluated else line["epoch"] - 1)
        for name, value in line.items():
            if name not in ("step", "epoch") and value is not None:
                known = name.startswith(("train/", f"{split}/"))
                values[line["epoch"], name if known else f"train/{name}"].append(value)
    return [
        Point(storable(name), sum(logged) / len(logged), written, epoch)
        for (epoch, name), logged in values.items()
        if over or epoch <= complete
    ]


def system_points(run: RunDir, over: bool) -> list[Point]:
    """Return the state of GPU and machine, averaged by minute. The step is the minute.

    Args:
        run: the run directory.
        over: whether the last minute counts as complete.
    """
    path = run.path / SYSTEM_METRICS
    # A line that is being written is cut short, and ends without a line break.
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    values: dict[tuple[int, str], list[float]] = defaultdict(list)
    for sample in map(json.loads, lines):
        minute = int(sample.pop("time") // 60)
        for name, value in sample.items():
            values[minute, f"system/{name}"].append(value)
    minutes = sorted({minute for minute, _ in values})
    complete = minutes if over else minutes[:-1]
    return [
        Point(name, sum(sampled) / len(sampled), milliseconds(60 * minute), minute - minutes[0])
        for (minute, name), sampled in values.items()
        if minute in complete
    ]


def final_metrics(run: RunDir) -> dict[str, float]:
    """Return the reported numbers of a run.

    They are called `val/selected/...` for the split that chose the epoch, `test/<split>/...` for
    other splits, `system/...` for what the run cost, and as `robustness_metrics` says.
    """
    result = run.read_json("result.json")
    selected = result.pop("selected", {})
    final: dict[str, float | None] = {}
    if selected:
        final["val/selected/epoch"] = selected["epoch"]
    for split, numbers in result.items():
        part = "val/selected" if split == selected.get("split") else f"test/{storable(split)}"
        final |= {f"{part}/{name}": value for name, value in numbers.items()}
    for file in ("timing.json", "costs.json"):
        costs = run.read_json(file).items()
        numeric = {name: value for name, value in costs if isinstance(value, (int, float))}
        final |= {f"system/{name}": value for name, value in numeric.items()}
    final |= robustness_metrics(run)
    return {name: float(value) for name, value in final.items() if value is not None}


def robustness_metrics(run: RunDir) -> dict[str, float | None]:
    """Return the numbers of a run under every condition that it was evaluated under.

    They are called `robust/<corruption>/<severity>/<split>/...`,
    `robust/<occlusion target>/<percent>/<split>/...` and `robust/words/<split>/...`.
    """
    found = {}
    for path in sorted(run.path.glob("robustness/*/metrics.json")):
        split = path.parent.name
        for condition, numbers in run.read_json(f"robustness/{split}/metrics.json").items():
            place = "/".join(filter(None, condition.rpartition("-")[::2]))
            # What may be judged is enough: there may be a hundred conditions.
            for metric in metrics.judged():
                name = f"robust/{place}/{storable(split)}/{metric.name}"
                found[name] = numbers.get(metric.name)
    return found


# --- parameters and data --------------------------------------------------------------------------


def parameters(spec: AnySpec) -> dict[str, str]:
    """Return the parameters of a run: what it is, and the settings of its strategy and recipe.

    Of the network there is only what differs from its variant, so that one can read the list.
    """
    values = spec.model_dump(mode="json")
    if isinstance(spec, PredictionsSpec):
        return flatten({**values, "method": spec.method, "strategy": spec.strategy.name})
    variants = methods.definition(spec.method).variants
    usual = variants[spec.variant].model_dump(mode="json") if spec.variant in variants else {}
    usual = flatten({"network": usual})
    network = flatten({"network": values["network"]})
    identity = ("method", "variant", "dataset", "split_by", "seed")
    return {
        **flatten({name: values[name] for name in identity}),
        "strategy": spec.strategy.name,
        **flatten({"strategy": {**values["strategy"], "name": None}, "recipe": values["recipe"]}),
        **{name: value for name, value in network.items() if usual.get(name) != value},
        "selection.metric": spec.selection.metric,
    }


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested values as dotted name -> text, without those that are None.

    Numbers stay numbers for charts, and texts are cut to MLflow's limit.
    """
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{storable(name)}.")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[prefix + storable(name)] = text[:TEXT_CHARACTERS]
    return flat


def inputs(run: RunDir, spec: AnySpec) -> list[Input]:
    """Return the splits that a run was trained, selected and tested on."""
    source = run.read_json("environment.json").get("data", {}).get("root", "")
    contexts = {} if isinstance(spec, PredictionsSpec) else {datasets.TRAIN: "train"}
    for split in spec.selection.report:
        contexts[split] = "val" if split == spec.selection.split else "test"
    found = []
    for split, context in contexts.items():
        # A split of another data set names its owner.
        name, split_by, own = splits.owner(split) or (spec.dataset, spec.split_by, split)
        sha256 = spec.report_sha256.get(f"{name}:{split_by}", spec.data_sha256)
        path = run.path / "records" / f"{split}.parquet"
        profile = {"split": own, "split_by": split_by, **_counts(name, split_by, own, path)}
        found.append(Input(f"{name} {own}", sha256[:12], source, context, profile))
    return found


def _counts(name: str, split_by: str, split: str, records: Path) -> dict[str, int]:
    """Return how much a split holds, as published or as its records say, as far as known."""
    known = datasets.get(name).counts.get(split_by, {}) if name in datasets.DATASETS else {}
    if split in known:
        return {what: count for what, count in vars(known[split]).items() if count is not None}
    if not records.exists():
        return {}
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import read_metadata

    try:
        return {"expressions": read_metadata(records).num_rows}
    except ArrowInvalid as error:
        raise ValueError(f"{records.name}: {error}") from None


# --- a run directory ------------------------------------------------------------------------------


class Entry:
    """A run directory as it is now.

    Args:
        run: the directory.
        groups: the groups that the run belongs to, presets before studies.

    Attributes:
        state: of the run.
        look: a digest of all that a store shows of the directory. It is made from names, sizes and
            times of files, so that a pass over many unchanged runs reads next to nothing.

    Raises:
        UserError, OSError, ValueError: the directory is damaged. `reading` makes one error of them.
    """

    def __init__(self, run: RunDir, groups: list[Group]) -> None:
        self.run, self.groups, self.status = run, groups, run.status()
        if self.status.state == "damaged":
            raise WorldError(self.status.reason)
        self.trials = ", ".join(
            f"{group.name} {number}" for group in groups for number in group.trials.get(run.key, ())
        )
        self.state: str = self.status.state
        self.over = self.state in OVER
        about = [self.state, self.status.reason, [group.name for group in groups], self.trials]
        if self.over:
            about += [list(_stats(run.path, ""))]
        else:
            # The heartbeat and the lines within an epoch show nothing new.
            about += [len(self.epoch_points()), (run.path / "environment.json").exists()]
        self.look = digest(json.dumps(about).encode())

    @functools.cached_property
    def spec(self) -> AnySpec:
        """The spec of the run."""
        return self.run.any_spec()

    @property
    def parents(self) -> list[str]:
        """The parent of each group that the run is in. It is shown under the first of them."""
        return [parent_name(self.spec, group) for group in self.groups or [None]]

    @property
    def name(self) -> str:
        """What a reader calls the run beside its siblings, such as `+MaskRIS, seed 2`."""
        its = [
            cell for group in self.groups[:1] for cell in group.cells if cell.key == self.run.key
        ]
        if its and its[0].trial is not None:
            return f"trial {its[0].trial}, seed {self.spec.seed}"
        row = its[0].row if its else ""
        return f"{row or self.spec.strategy.heading}, seed {self.spec.seed}"

    @property
    def start(self) -> int:
        """The time at which the run was planned, in milliseconds."""
        planned = milliseconds((self.run.path / "spec.yaml").stat().st_mtime)
        # A copied folder may be younger than the end of its run.
        return planned if self.end is None else min(planned, self.end)

    @property
    def end(self) -> int | None:
        """The time at which the run ended, in milliseconds, or None while it goes on."""
        return milliseconds(self.status.heartbeat) if self.over else None

    def epoch_points(self) -> list[Point]:
        """Return the logged metrics by epoch, as `epoch_points` does."""
        if not (self.run.path / "metrics.jsonl").exists():
            return []
        return epoch_points(self.run, self.spec.selection.split, self.over)

    def points(self) -> list[Point]:
        """Return all points of the run. Final numbers stand at the epoch that was selected."""
        logged = self.epoch_points() + system_points(self.run, self.over)
        final = final_metrics(self.run)
        if not final:
            return logged
        written = self.end or self.start
        step = int(final.get("val/selected/epoch", 0))
        numbers = [Point(name, value, written, step) for name, value in final.items()]
        return logged + numbers

    def tags(self) -> dict[str, str]:
        """Return the tags that people see. All else that is known of the run is a parameter."""
        git = self.run.read_json("environment.json").get("git", {})
        return {
            "ris.key": self.run.key,
            "ris.status": self.state,
            "ris.reason": self.status.reason[:TEXT_CHARACTERS],
            "ris.groups": ",".join(group.name for group in self.groups),
            "ris.trials": self.trials[:TEXT_CHARACTERS],
            "data.sha256": self.spec.data_sha256,
            **{f"git.{name}": str(value) for name, value in git.items()},
        }

    def files(self) -> dict[str, list[Path]]:
        """Return the files that are artifacts, in parts that are sent together.

        A part is a file, or a folder with all that it holds. While a run goes on, it has only the
        small files that say how far it is.
        """
        parts: dict[str, list[Path]] = defaultdict(list)
        for relative, *_ in _stats(self.run.path, ""):
            folder = os.path.dirname(relative)
            if not folder and (self.over or not relative.endswith(".safetensors")):
                parts[relative].append(self.run.path / relative)
            elif folder and folder not in NOT_FILES and self.over:
                parts[folder].append(self.run.path / relative)
        return parts

    def images(self) -> list[Path]:
        """Return the overlays of a finished run."""
        return sorted(self.run.path.glob("images/[!.]*.png")) if self.over else []


def _stats(folder: Path, prefix: str) -> Iterator[tuple[str, int, int]]:
    """Yield path, size and time of every file of a run that is not hidden, in a fixed order."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or (not prefix and entry.name == "state"):
            continue
        if entry.is_dir():
            yield from _stats(Path(entry.path), f"{prefix}{entry.name}/")
        else:
            stat = entry.stat()
            yield f"{prefix}{entry.name}", stat.st_size, stat.st_mtime_ns
