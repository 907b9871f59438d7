"""Which runs of a plan enter a table, and what became of the others.

Only runs of the plan's current keys enter, and only if their state is `done`. The plan and the run
directories say everything, so neither data nor weights are needed.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.base.errors import UserError
from benchmark.evaluation import metrics
from benchmark.evaluation.image_sums import ImageSums, validated
from benchmark.runs import integrity
from benchmark.runs.groups import Cell, Group
from benchmark.runs.predictions import AnySpec
from benchmark.runs.rundir import SPEC_REMEDY, RunDir, all_runs
from benchmark.runs.status import RunStatus

NOT_RESOLVED = "not resolved yet"


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        spec: its configuration.
        splits: reported split -> its records, summed by image.
        epoch: the selected one, or None where the masks were made elsewhere.
        commit: git commit of the code that made it.
        dirty: whether that code had uncommitted changes, or None if it is not known.
        numerics: what can change its last digits, such as device and threads, as far as known.
        environment: all that its environment.json says.
    """

    spec: AnySpec
    splits: dict[str, ImageSums]
    epoch: int | None
    commit: str
    dirty: bool | None
    numerics: dict[str, Any]
    environment: dict[str, Any]

    @functools.cached_property
    def key(self) -> str:
        """The run key, which is the digest of a whole spec and is asked for many times."""
        return self.spec.key


@dataclasses.dataclass(frozen=True)
class Planned:
    """A cell of a plan and how far its run is.

    Attributes:
        cell: the cell.
        status: of its run, or None if the cell has no key yet.
    """

    cell: Cell
    status: RunStatus | None

    @property
    def state(self) -> str:
        """The state: `done`, `running`, `failed`, `pruned`, `planned` or `not resolved yet`."""
        return self.status.state if self.status else NOT_RESOLVED

    @property
    def name(self) -> str:
        """The run key, or what the cell is about if it has none yet."""
        cell = self.cell
        what = f"{cell.method} {cell.variant} {cell.strategy} on {cell.dataset} ({cell.split_by})"
        return cell.key or f"{what}, seed {cell.seed}"

    @property
    def words(self) -> str:
        """The state, with the reason of a failure or the share of the steps that are done."""
        if self.status is None:
            return NOT_RESOLVED
        status = self.status
        if reason := " ".join(status.reason.split()):
            return f"{status.state} ({reason})"
        if status.steps and status.step:
            return f"{status.state} ({status.step / status.steps:.0%} of the steps are done)"
        return status.state


@dataclasses.dataclass(frozen=True, eq=False)
class Collected:
    """What a table is made from.

    Attributes:
        group: the plan.
        planned: those of its cells that the table is about.
        runs: the finished ones, by key.
        specs: of every cell whose run directory is there, finished or not, by key.
        superseded: keys of finished runs that the plan held once and holds no more.
        unused: keys of the other finished runs in the folder that are in no cell of the plan.
    """

    group: Group
    planned: tuple[Planned, ...]
    runs: tuple[Run, ...]
    specs: tuple[AnySpec, ...]
    superseded: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def unfinished(self) -> list[Planned]:
        """The cells whose runs are not finished, by key. Those without a key come last."""
        others = [planned for planned in self.planned if planned.state != "done"]
        return sorted(others, key=lambda planned: (not planned.cell.key, planned.cell.key))


def collect(group: Group, runs: Path, chosen: Sequence[Cell] | None = None) -> Collected:
    """Return the finished runs of a plan, with their records, and how far the others are.

    Args:
        group: the plan, as `groups.read_group` returns it or made with the cells of specs.
        runs: folder of the run directories.
        chosen: cells of the plan that the table is about, all by default.

    Raises:
        UserError: none of them is finished. A damaged one is not, and the message names it.
    """
    cells = [*(group.cells if chosen is None else chosen)]
    keys = sorted({cell.key for cell in cells if cell.key})
    statuses = {key: RunDir(runs / key).status() for key in keys}
    specs, finished = {}, []
    for key in keys:
        run = RunDir(runs / key)
        try:
            if statuses[key].state == "done" or (run.path / "spec.yaml").exists():
                specs[key] = _spec(run)
            if statuses[key].state == "done":
                finished.append(load_run(specs[key], run))
        except UserError as error:
            # A damaged run is named where the unfinished ones are, and the others are reported.
            statuses[key] = RunStatus(state="damaged", reason=str(error))
    if not finished:
        remedy = "run `risbench matrix` with the same options first"
        if group.kind == "study":
            remedy = f"start them with `risbench study resume {group.name}`"
        reasons = [its.reason for its in statuses.values() if its.state == "damaged"]
        damaged = f" The first damaged one: {reasons[0]}" if reasons else ""
        raise UserError(
            f"none of the {len(cells)} runs of this table is finished in {runs}: {remedy}"
            f" (`risbench status` shows how far they are).{damaged}"
        )
    others = _finished_elsewhere(group, runs)
    return Collected(
        group=group,
        planned=tuple(Planned(cell, statuses.get(cell.key)) for cell in cells),
        runs=tuple(finished),
        specs=tuple(specs.values()),
        superseded=tuple(key for key in group.superseded if key in others),
        unused=tuple(key for key in others if key not in group.superseded),
    )


def _finished_elsewhere(group: Group, runs: Path) -> list[str]:
    """Return the keys of the finished runs in the folder that the plan does not hold now."""
    held = {*group.keys, *group.needed}
    others = [run for run in all_runs(runs) if run.key not in held]
    return [run.key for run in others if run.status().state == "done"]


# --- one run --------------------------------------------------------------------------------------


def _spec(run: RunDir) -> AnySpec:
    spec = run.any_spec()
    if spec.key != run.key:
        raise run.damaged("spec.yaml", "it is another run's", SPEC_REMEDY)
    return spec


def load_run(spec: AnySpec, run: RunDir) -> Run:
    """Read a finished run, and check that its files belong together.

    Raises:
        UserError: one of the files that reports read is damaged.
    """
    if name := integrity.changed(run.path, integrity.SMALL):
        raise run.damaged(name)
    result = run.read_json("result.json")
    environment = run.read_json("environment.json")
    splits = {}
    for split in spec.selection.report:
        splits[split] = validated(run.records(split), f"split '{split}' of run {run.key}")
        if not _agree(splits[split].points, result.get(split, {})):
            raise run.damaged(
                "result.json", f"the records of split '{split}' do not give its numbers"
            )
    try:
        git = environment["git"]
        epoch = int(result["selected"]["epoch"]) if run.kind == "trained" else None
        numerics = _numerics(environment)
        return Run(spec, splits, epoch, git["commit"], git["dirty"], numerics, environment)
    except (KeyError, TypeError, ValueError, AttributeError):
        what = "it or environment.json lacks the selected epoch or the git state"
        raise run.damaged("result.json", what) from None


def _agree(computed: dict[str, float], noted: dict[str, float]) -> bool:
    """Return whether the judged metrics that a result holds are those of its records."""
    # A metric that was registered after the run was made can be computed but was not noted.
    both = [name for name in computed if metrics.get(name).judged and name in noted]
    return bool(both) and np.allclose(
        [computed[name] for name in both],
        [np.nan if noted[name] is None else noted[name] for name in both],
        rtol=0,
        atol=1e-9,
        equal_nan=True,
    )


def _numerics(environment: dict[str, Any]) -> dict[str, Any]:
    if "numerics" in environment:
        return environment["numerics"]
    # Runs that are older than this entry describe their device, and its type stands for it.
    device = environment.get("device", {})
    known = {"device": device.get("type")}
    known |= {name: device.get(name) for name in ("threads", "processes")}
    return {name: value for name, value in known.items() if value is not None}


def dirty(run: Run) -> str:
    """Return whether the code of a run had uncommitted changes: yes, no or unknown."""
    return {None: "unknown", True: "yes", False: "no"}[run.dirty]
