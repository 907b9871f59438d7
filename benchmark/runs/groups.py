"""A group of runs is a plan: `runs/groups/<name>.json` holds what a preset or study planned.

A plan has one cell for each run. The cell says what is run (method, variant, strategy, data set,
seed, and the row of a grid or the trial of a search) and holds exactly one current key. Reports
and `status` read plans and run directories alone, so they need neither data nor weights.

A key is superseded when its cell gets another one. A cell is gone when the preset no longer holds
it. Runs of superseded keys are never counted, and are listed as unused.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from benchmark.base.errors import UserError, WorldError, choose
from benchmark.base.files import atomic_write
from benchmark.base.locks import locked
from benchmark.runs.predictions import AnySpec, PredictionsSpec
from benchmark.runs.preset import defaults
from benchmark.runs.rundir import RunDir

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
VERSION = 2
Kind = Literal["preset", "study"]


@dataclasses.dataclass
class Cell:
    """One planned run.

    Attributes:
        method: the registered name of the method.
        variant: the size of the method.
        strategy: the registered name of the strategy.
        dataset: the name of the data set.
        split_by: the way of splitting the data set.
        seed: the seed of the run.
        row: the label of a grid's row, or "" outside of a grid.
        trial: the number of a search's trial, or None outside of a search.
        key: the key of the current run, or "" until its data and weights have been read.
        superseded: the keys that the cell had before.
        name: what predictions that were made elsewhere are called, or "" for a run of the suite.
    """

    method: str
    variant: str
    strategy: str
    dataset: str
    split_by: str
    seed: int
    row: str = ""
    trial: int | None = None
    key: str = ""
    superseded: list[str] = dataclasses.field(default_factory=list)
    name: str = ""

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells the cell from the others of its group.

        A trial is told by its number alone, since a search may vary anything else.
        """
        if self.trial is not None:
            return (self.trial,)
        return (
            self.method,
            self.variant,
            self.strategy,
            self.dataset,
            self.split_by,
            self.seed,
            self.row,
            self.name,
        )

    @property
    def axes(self) -> dict[str, str]:
        """The value of the cell on every axis, as commands write it."""
        return {
            "methods": self.method,
            "strategies": self.strategy,
            "datasets": f"{self.dataset}:{self.split_by}",
            "variants": self.variant,
            "seeds": str(self.seed),
        }

    @classmethod
    def of(cls, spec: AnySpec, row: str = "", trial: int | None = None) -> "Cell":
        """Return the cell of a resolved run, or of predictions.

        Args:
            spec: the spec of the run.
            row: the label of its row, where the run belongs to a grid.
            trial: the number of its trial, where the run belongs to a search.
        """
        return cls(
            method=spec.method,
            variant=spec.variant,
            strategy=spec.strategy.name,
            dataset=spec.dataset,
            split_by=spec.split_by,
            seed=spec.seed,
            row=row,
            trial=trial,
            key=spec.key,
            name=spec.name if isinstance(spec, PredictionsSpec) else "",
        )


@dataclasses.dataclass
class Group:
    """The plan of a preset or study.

    Attributes:
        name: the name of the plan.
        kind: `preset` or `study`.
        description: one line about the preset or study.
        text: the text of its file when it was last planned.
        axes: axis -> planned values.
        primary: supervision -> the one metric that is judged.
        margin: the smallest relevant difference of the primary metric, in points.
        cells: the planned runs.
        gone: cells that were planned once and are not now.
        needed: keys of runs that make targets for others.
        rivals: pairs of strategies that are compared with each other, beside the reference.
        changes: one sentence for each change of primary metric or margin that was made after a run
            was done. Every table prints them.
    """

    name: str
    kind: Kind
    description: str = ""
    text: str = ""
    axes: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    primary: dict[str, str] = dataclasses.field(default_factory=lambda: defaults()["primary"])
    margin: float = dataclasses.field(default_factory=lambda: defaults()["margin"])
    cells: list[Cell] = dataclasses.field(default_factory=list)
    gone: list[Cell] = dataclasses.field(default_factory=list)
    needed: list[str] = dataclasses.field(default_factory=list)
    rivals: list[list[str]] = dataclasses.field(default_factory=list)
    changes: list[str] = dataclasses.field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        """The current keys, each once, in the order of the cells."""
        return list(dict.fromkeys(cell.key for cell in self.cells if cell.key))

    @property
    def superseded(self) -> list[str]:
        """Keys that were planned once and are not now."""
        before = [key for cell in self.cells for key in cell.superseded]
        before += [key for cell in self.gone for key in (*cell.superseded, cell.key) if key]
        return [key for key in dict.fromkeys(before) if key not in set(self.keys)]

    @property
    def trials(self) -> dict[str, list[int]]:
        """Run key -> numbers of a search's trials that are this run.

        Two trials with the same parameters are the same run.
        """
        numbers: dict[str, list[int]] = {}
        for cell in self.cells:
            if cell.trial is not None and cell.key:
                numbers.setdefault(cell.key, []).append(cell.trial)
        return numbers


# --- files ----------------------------------------------------------------------------


def _path(runs: Path, name: str) -> Path:
    return runs / "groups" / f"{name}.json"


def _read(path: Path) -> Group:
    try:
        content = json.loads(path.read_text())
        if "version" not in content:
            return _from_keys(content, path.parents[1])
        if content.pop("version") != VERSION:
            raise ValueError
        cells = {name: [Cell(**cell) for cell in content.pop(name)] for name in ("cells", "gone")}
        return Group(**content, **cells)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise WorldError(
            f"{path} is damaged: delete it and start the same matrix or study again."
        ) from None
    except OSError as error:
        raise WorldError(
            f"{path} cannot be read ({error.strerror}): check its permissions."
        ) from None


def _from_keys(content: Mapping[str, Any], runs: Path) -> Group:
    """Return a group that was written before groups were plans.

    Such a file lists keys alone, and the run directories say what the cells are.
    """
    trials = content.get("trials", {})
    cells = []
    for key in content["keys"]:
        run = RunDir(runs / key)
        if (run.path / "spec.yaml").exists():
            cells += [Cell.of(run.any_spec(), trial=number) for number in trials.get(key) or [None]]
    return Group(content["name"], content["kind"], cells=cells)


def plan_name(preset: str) -> str:
    """Return the name of a preset's plan, which for a preset's file is that of the file."""
    return Path(preset).stem if preset.endswith((".yaml", ".yml")) else preset


def names(runs: Path) -> list[str]:
    """Return the names of all groups in a folder of runs."""
    return sorted(path.stem for path in (runs / "groups").glob("[!.]*.json"))


def read_group(runs: Path, name: str) -> Group:
    """Return the group called `name`.

    Raises:
        UserError: nothing was planned under this name (the message lists the nearest ones), or the
            file is damaged.
    """
    if not names(runs):
        raise UserError(
            f"nothing was planned in {runs}: start with `risbench matrix --preset quick`."
        )
    return _read(_path(runs, choose(name, names(runs), "planned preset or study")))


def read_groups(
    runs: Path, on_damage: Callable[[str, WorldError], None] | None = None, but: str = ""
) -> list[Group]:
    """Return all groups, presets before studies and each kind in the order of names.

    Args:
        runs: the folder of the run directories.
        on_damage: takes the name of a group whose file is damaged, and the error. Such a group is
            left out then.
        but: the name of a group that is left out, too.

    Raises:
        WorldError: a file is damaged, and there is no `on_damage`.
    """
    groups = []
    for name in names(runs):
        if name == but:
            continue
        try:
            groups.append(_read(_path(runs, name)))
        except WorldError as error:
            if on_damage is None:
                raise
            on_damage(name, error)
    # MLflow shows a run under its first group. A run that a study shares with a preset therefore
    # stays with the preset.
    return sorted(groups, key=lambda group: (group.kind, group.name))


def check_name(runs: Path, name: str, kind: Kind) -> None:
    """Check that a preset or study can be called `name`.

    Raises:
        UserError: the name cannot be that of a file, or a group of the other kind has it.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"'{name}' cannot name a preset or study: use letters, digits and . _ + - alone."
        )
    if _path(runs, name).exists() and (other := _read(_path(runs, name)).kind) != kind:
        raise UserError(
            f"'{name}' is the name of a {other} in {runs}: give this {kind} another name."
        )


def write_plan(runs: Path, plan: Group, add: bool = False) -> Group:
    """Bring the group of this name up to date with a plan, and return the group.

    Args:
        runs: the folder of the run directories.
        plan: a group with all planned cells. A cell without a key keeps the one that it had.
        add: whether cells that are there already and not in the plan stay planned.

    Raises:
        UserError: the name does not fit (see `check_name`), the file that is there is damaged, or
            it cannot be written.
    """
    check_name(runs, plan.name, plan.kind)
    path = _path(runs, plan.name)
    with locked(path.with_name(f".{plan.name}.lock")):
        before = _read(path) if path.exists() else None
        if before and add:
            plan = _with_those(before, plan)
        group = _merged(before, plan, runs) if before else plan
        if group != before:
            content = {"version": VERSION, **dataclasses.asdict(group)}
            text = json.dumps(content, indent=1) + "\n"
            atomic_write(path, lambda temporary: temporary.write_text(text))
    return group


def _with_those(before: Group, plan: Group) -> Group:
    """Return a plan with the cells of a group that are no cells of the plan."""
    keys, identities = {*plan.keys}, {cell.identity for cell in plan.cells}
    kept = [
        cell
        for cell in before.cells
        if cell.identity not in identities and (not cell.key or cell.key not in keys)
    ]
    return dataclasses.replace(plan, cells=[*kept, *plan.cells])


def _merged(before: Group, plan: Group, runs: Path) -> Group:
    """Return the plan with what the group knows already.

    This is the current and superseded keys, the cells that are gone, and the changes. Predictions
    were added by a command of their own, so no preset lists them, and they stay as long as their
    folder is there.
    """
    identities = {cell.identity for cell in plan.cells}
    added = [
        cell
        for cell in before.cells
        if cell.name and cell.identity not in identities and (runs / cell.key).exists()
    ]
    known = {cell.identity: cell for cell in (*before.gone, *before.cells)}
    cells = [_carried(known.pop(cell.identity, None), cell) for cell in (*plan.cells, *added)]
    changes = list(before.changes)
    if any(RunDir(runs / key).status().state == "done" for key in before.keys):
        for field in ("primary", "margin", "rivals"):
            was, now = getattr(before, field), getattr(plan, field)
            if was != now:
                changes.append(
                    f"{field} was {_words(was)} when runs were done already,"
                    f" and is now {_words(now)}"
                )
    needed = list(dict.fromkeys((*before.needed, *plan.needed)))
    return dataclasses.replace(
        plan, cells=cells, gone=list(known.values()), needed=needed, changes=changes
    )


def _carried(old: Cell | None, new: Cell) -> Cell:
    """Return a planned cell with the keys that its group knew of it."""
    if old is None:
        return new
    if not new.key or new.key == old.key:
        return dataclasses.replace(new, key=old.key, superseded=old.superseded)
    before = [old.key] if old.key else []
    superseded = [key for key in dict.fromkeys((*old.superseded, *before)) if key != new.key]
    return dataclasses.replace(new, superseded=superseded)


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{metric} ({supervision})" for supervision, metric in value.items())
    return str(value)


def members(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """Return run key -> the groups that hold it, in the order of `groups`."""
    holders: dict[str, list[Group]] = {}
    for group in groups:
        for key in group.keys:
            holders.setdefault(key, []).append(group)
    return holders
