"""The files of a group that lie beside the run directories, and what its report is made from."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from benchmark.runs.groups import Group
from benchmark.tracking.group_report import ReportMaker
from benchmark.tracking.projection import Entry, digest


@dataclasses.dataclass(frozen=True)
class Plan:
    """A group as the folder of runs holds it.

    Attributes:
        group: the group.
        stamp: a text that is another one whenever the group's report may be.
        files: folder, relative to that of the runs -> files in it.
    """

    group: Group
    stamp: str
    files: dict[str, list[Path]]

    @classmethod
    def of(
        cls, group: Group, runs: Path, entries: Iterable[Entry], reports: ReportMaker | None
    ) -> "Plan":
        """Return what the folder holds of a group.

        Args:
            group: the group.
            runs: folder of the run directories.
            entries: all runs in it.
            reports: makes the report of the group.
        """
        files = {"groups": [runs / "groups" / f"{group.name}.json"]}
        for place in ("studies", "examples"):
            for path in sorted((runs / place / group.name).rglob("[!.]*")):
                if path.is_file():
                    folder = str(path.parent.relative_to(runs))
                    files.setdefault(folder, []).append(path)
        keys = set(group.keys)
        # How far the others are is shown with them, and would make the report again and again.
        looks = {entry.run.key: entry.look for entry in entries if entry.state == "done"}
        own = {key: looks[key] for key in sorted(keys & looks.keys())}
        stats = [
            (str(path.relative_to(runs)), path.stat().st_size, path.stat().st_mtime_ns)
            for paths in files.values()
            for path in paths
        ]
        revision = reports.revision if reports else ""
        return cls(group, digest(json.dumps([revision, stats, own]).encode()), files)
