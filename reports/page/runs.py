"""Runs on the page: how far each one is, and what a reader needs to make it again."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark import strategies
from benchmark.base.errors import UserError
from benchmark.base.files import dump_yaml, read_bytes
from benchmark.runs.costs import Costs, read_costs
from benchmark.runs.groups import Cell
from benchmark.runs.rundir import RunDir
from reports.collected import Collected, Planned, Run
from reports.layout.block import Block
from reports.page.named import Named

LOG_LINES = 15  # of the end of a log
LOG_BYTES = 16384  # that are read for them


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """What the page says about a run that has begun.

    Attributes:
        key: of the run.
        name: what the page calls it.
        state: how far it is, with the reason of a failure.
        facts: heading -> what is known, such as the commit.
        packages: package -> version.
        spec: text of `spec.yaml`.
        log: path of the log in the folder of the runs.
        lines: the end of the log, or "".
    """

    key: str
    name: str
    state: str
    facts: dict[str, str]
    packages: dict[str, str]
    spec: str
    log: str
    lines: str


def facts(
    collected: Collected, names: Mapping[str, Named], runs: Path, costs: Mapping[str, Costs]
) -> list[RunFacts]:
    """Return the facts of every run that has begun, in the order of their names.

    Args:
        collected: the runs.
        names: run key -> what the page calls it.
        runs: folder of the run directories.
        costs: key of a finished run -> what it cost.
    """
    planned = {its.cell.key: its for its in collected.planned}
    finished = {run.key: run for run in collected.runs}
    return [
        _facts(RunDir(runs / key), named, planned[key], finished.get(key), costs.get(key))
        for key, named in names.items()
    ]


def _so_far(run: RunDir) -> tuple[dict[str, Any], Costs | None]:
    """Return the environment and the costs of a run that is not finished, as far as readable."""
    try:
        return run.read_json("environment.json"), read_costs(run)
    except UserError:
        return {}, None


def _facts(
    run: RunDir, named: Named, planned: Planned, finished: Run | None, costs: Costs | None
) -> RunFacts:
    if finished:
        environment = finished.environment
    else:
        environment, costs = _so_far(run)
    spec = named.spec
    known = {
        "commit": _commit(environment.get("git", {})),
        "device": _device(environment),
        "python": environment.get("python", ""),
        "data": f"{named.dataset}, sha256 {spec.data_sha256}",
        "selected epoch": _epoch(finished),
        "training": _duration(costs.training_seconds if costs else None),
        "best so far": _best(planned, spec.selection.metric),
    }
    # The folder of the runs may be one of links or a copy, so its own place means nothing later.
    log = run.path / "log.txt"
    return RunFacts(
        run.key,
        named.text,
        "done" if planned.state == "done" else planned.words,
        {heading: text for heading, text in known.items() if text},
        environment.get("packages", {}),
        dump_yaml(spec.model_dump(mode="json")),
        f"{run.key}/{log.name}",
        _tail(log),
    )


def _epoch(finished: Run | None) -> str:
    known = finished is not None and finished.epoch is not None
    return f"{finished.epoch}, counted from 0" if known else ""


def _commit(git: Mapping[str, Any]) -> str:
    changed = {True: ", with uncommitted changes", None: ", changes unknown", False: ""}
    return git["commit"] + changed[git.get("dirty")] if "commit" in git else ""


def _device(environment: Mapping[str, Any]) -> str:
    known = environment.get("device") or environment.get("numerics") or {}
    return ", ".join(f"{name} {value}" for name, value in known.items())


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.2f} h"


def _best(planned: Planned, metric: str) -> str:
    status = planned.status
    if planned.state == "done" or status is None or status.best is None:
        return ""
    return f"{metric} {100 * status.best:.2f}"


def _tail(log: Path) -> str:
    if not log.exists():
        return ""
    lines = read_bytes(log)[-LOG_BYTES:].decode(errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:])


# --- the plan -------------------------------------------------------------------------------------


def unfinished(collected: Collected, names: Mapping[str, Named]) -> Block | None:
    """Return a table of the planned runs that are not finished, or None where all are."""
    if not collected.unfinished:
        return None
    lines = [
        (*_called(its.cell, names), str(its.cell.seed), its.words) for its in collected.unfinished
    ]
    header = ("data set", "method", "strategy", "seed", "state")
    return Block("Not finished, and not in the tables", "", header, lines, names=5, repeated=3)


def grid(collected: Collected, names: Mapping[str, Named]) -> Block:
    """Return how far every cell of the plan is: a line per method and strategy, a column per seed.

    A seed that another line has and this one lacks is `not planned`.
    """
    seeds = sorted({its.cell.seed for its in collected.planned})
    states: dict[tuple[str, ...], dict[int, str]] = {}
    for its in collected.planned:
        states.setdefault(_called(its.cell, names), {})[its.cell.seed] = _short(its)
    lines = [
        (*called, *(by_seed.get(seed, "not planned") for seed in seeds))
        for called, by_seed in states.items()
    ]
    header = ("data set", "method", "strategy", *(f"seed {seed}" for seed in seeds))
    return Block("The plan", "", header, lines, names=len(header), repeated=3)


def _called(cell: Cell, names: Mapping[str, Named]) -> tuple[str, str, str]:
    """Return data set, method and strategy of a cell, also of one that has not begun."""
    if cell.key in names:
        its = names[cell.key]
        return its.dataset, its.method, its.strategy
    if cell.name:
        method = f"{cell.method} {cell.variant}".strip()
        return f"{cell.dataset} ({cell.split_by})", method, cell.name
    heading = strategies.get(cell.strategy).heading
    return f"{cell.dataset} ({cell.split_by})", f"{cell.method} {cell.variant}", heading


def _short(planned: Planned) -> str:
    """Return the state with the share that is done, but without the reason of a failure."""
    status = planned.status
    if planned.state == "running" and status and status.steps:
        return f"running {status.step / status.steps:.0%}"
    return planned.state


def counts(planned: Sequence[Planned]) -> dict[str, int]:
    """Return state -> number of planned runs, the finished ones first."""
    order = ("done", "running", "failed", "damaged", "planned", "pruned")
    states = [its.state for its in planned]
    every = [*order, *sorted({*states} - {*order})]
    return {state: states.count(state) for state in every if state in states}
