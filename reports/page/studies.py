"""Studies on the page: how far each one is, and the rows of a grid beside its reference."""

import dataclasses
from collections import Counter
from pathlib import Path

from benchmark.base.errors import WorldError
from benchmark.runs.groups import Group, read_groups
from benchmark.runs.rundir import RunDir
from reports.layout.block import Block
from reports.studies.grids import report as grids
from reports.studies.grids.results import results
from studies import study


@dataclasses.dataclass(frozen=True)
class Study:
    """A study that was started.

    Attributes:
        name: its name.
        description: what it asks.
        progress: how many of its runs have which state, as a sentence.
        blocks: the tables of a grid with a finished run.
        notes: what stands under them.
    """

    name: str
    description: str
    progress: str
    blocks: list[Block]
    notes: list[str]


def studies(runs: Path, known: Group) -> list[Study]:
    """Return the studies of a folder of runs.

    Args:
        runs: the folder.
        known: a plan of it that is read already.

    Raises:
        UserError: a run of a study is damaged. The message names the file.
    """
    damaged: list[Study] = []

    def note(name: str, error: WorldError) -> None:
        damaged.append(Study(name, "", "damaged", [], [str(error)]))

    others = read_groups(runs, note, but=known.name)
    shown = [_study(group, runs) for group in [known, *others] if group.kind == "study"]
    return shown + damaged


def _study(group: Group, runs: Path) -> Study:
    states = Counter(RunDir(runs / key).status().state for key in group.keys)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    progress = f"{len(group.keys)} runs: {counted}." if counted else "No run is planned yet."
    blocks: list[Block] = []
    notes: list[str] = []
    if states["done"] and group.name in study.names(runs):
        try:
            started = study.load(runs, group.name)
        except WorldError as error:
            # The page is about more than this study.
            started, notes = None, [str(error)]
        if started and started.study.kind == "grid":
            rows = results(started, runs)
            main, others = grids.blocks(rows)
            blocks, notes = [*main, *others], grids.footnotes(rows)
    return Study(group.name, group.description, progress, blocks, notes)
