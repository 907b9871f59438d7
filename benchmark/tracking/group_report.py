"""What a store is handed to show of a group of runs.

Tracking imports no report. The command that syncs makes the reports and hands them in.
"""

import dataclasses
from collections.abc import Callable, Mapping

from benchmark.runs.groups import Group


@dataclasses.dataclass(frozen=True)
class ParentReport:
    """What a report says of the runs under one parent.

    Attributes:
        note: Markdown. `{artifact:NAME}` in it stands for the address of the file of this name.
        metrics: name -> value of aggregates over seeds, as fractions.
        files: name -> content of tables and figures.
    """

    note: str
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class GroupReport:
    """The report of one group, as a store shows it.

    Attributes:
        notes: data set -> Markdown about the runs on it. `{artifact:PARENT/NAME}` in it stands for
            the address of a parent's file.
        parents: data set and name of a parent run -> what is said of its runs. `parent_name` in
            `projection` says what parents are called.
    """

    notes: Mapping[str, str]
    parents: Mapping[tuple[str, str], ParentReport]


@dataclasses.dataclass(frozen=True)
class ReportMaker:
    """Makes the reports of groups.

    Attributes:
        revision: a text that is another one whenever the code of the reports is.
        make: returns the report of a group, or None where none of its runs is finished. It raises
            a UserError where a run is damaged.
    """

    revision: str
    make: Callable[[Group], GroupReport | None]
