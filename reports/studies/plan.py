"""The plan of a study that was started."""

from pathlib import Path

from benchmark.runs import groups
from benchmark.runs.groups import Group
from studies.study import Started


def written_plan(started: Started, runs: Path) -> Group:
    """Return the group of a study as it was written, or an empty one if it was not written yet."""
    if started.name in groups.names(runs):
        return groups.read_group(runs, started.name)
    return Group(started.name, "study", started.study.description)
