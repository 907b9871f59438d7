"""Compares the speed of this checkout with that of an older commit, part by part.

Both are measured in turns, A B A B, so that whatever else the machine does meanwhile meets both.
The ratio of a part is the median of the ratios of its turns.
"""

import dataclasses
import json
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.base.errors import choose
from benchmark.base.files import atomic_write
from tests.speed.parts import Part, every_part, part_names
from tests.speed.trees import Failed, Sample, Tree, commit_of, limited, two_trees

INNER_REPEATS = 3  # of what a process times itself, whose median is one measurement


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile of some values."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


@dataclasses.dataclass
class Line:
    """A row of the table.

    Attributes:
        label: what was measured.
        cores: that a process may use.
        before: measurements of the older code.
        after: measurements of this code, one for each of `before`.
        reason: why there are none, or "".
    """

    label: str
    cores: int
    before: list[Sample] = dataclasses.field(default_factory=list)
    after: list[Sample] = dataclasses.field(default_factory=list)
    reason: str = ""

    def ratios(self, kind: str) -> list[float]:
        """Return after / before of each turn.

        Args:
            kind: `cpu` or `wall`.

        Returns:
            The ratios, none where this kind was not measured.
        """
        pairs = [
            (getattr(before, kind), getattr(after, kind))
            for before, after in zip(self.before, self.after, strict=True)
        ]
        return [] if None in {its for pair in pairs for its in pair} else [b / a for a, b in pairs]

    def content(self) -> dict[str, Any]:
        """Return the row as it stands in the file of results."""
        if self.reason:
            return {"part": self.label, "cores": self.cores, "reason": self.reason}
        found: dict[str, Any] = {"part": self.label, "cores": self.cores}
        for kind in ("cpu", "wall"):
            if ratios := self.ratios(kind):
                low, middle, high = quartiles(ratios)
                found[f"{kind}_before_seconds"] = [getattr(its, kind) for its in self.before]
                found[f"{kind}_after_seconds"] = [getattr(its, kind) for its in self.after]
                found[f"{kind}_ratio"] = middle
                found[f"{kind}_ratio_quartiles"] = [low, high]
        return found


def chosen_parts(names: Iterable[str], every: Sequence[Part]) -> list[Part]:
    """Return the parts of some names, or all parts where there are no names.

    Raises:
        UserError: there is no such part. The message lists the nearest names.
    """
    wanted = {choose(name, part_names(), "part") for name in names}
    if not wanted:
        return [*every]
    return [
        dataclasses.replace(part, names=tuple(its for its in part.names if its in wanted))
        for part in every
        if wanted & {*part.names}
    ]


def lines(part: Part, trees: tuple[Tree, Tree], repeats: int, cores: int) -> list[Line]:
    """Measure a part in turns.

    Args:
        part: what is measured.
        trees: the older code and this one.
        repeats: number of turns. A whole process is run once before them, which fills caches.
        cores: how many the processes may use.
    """
    found: dict[str, Line] = {}
    for number in range(repeats + (not part.inner)):
        turn = []
        for tree in trees:
            try:
                turn.append(tree.measure(part))
            except Failed as reason:
                words = f"the {tree.name} code cannot be measured: {reason}"
                return [Line(part.label or ", ".join(part.names), cores, reason=words)]
        if number == 0 and not part.inner:
            continue
        before, after = turn
        for label in (its for its in before if its in after):
            line = found.setdefault(label, Line(label, cores))
            line.before.append(before[label])
            line.after.append(after[label])
    return [found[label] for label in found if _is_chosen(label, part)]


def _is_chosen(label: str, part: Part) -> bool:
    """Return whether a label of a process that measures several things is one of those wanted."""
    return not part.inner or any(name in label.split() for name in part.names)


def compare(
    commit: str,
    names: Sequence[str],
    networks: tuple[Sequence[str], Sequence[str]],
    counts: Sequence[int],
    repeats: int,
    cores: Sequence[int],
    tell: Callable[[str], None],
) -> Iterator[Line]:
    """Yield a row for everything that is measured, as soon as it is.

    Args:
        commit: the older code.
        names: of the parts [all].
        networks: registered methods and variants whose networks are measured.
        counts: numbers of constructed finished runs.
        repeats: number of turns.
        cores: numbers of cores that the processes use, one after the other.
        tell: is called with what is being measured.

    Raises:
        UserError: a name or the commit is not known, or there are fewer cores.
    """
    planned = {
        number: chosen_parts(names, every_part(*networks, counts, INNER_REPEATS, number))
        for number in cores
    }
    with two_trees(commit_of(commit)) as trees:
        for number, parts in planned.items():
            with limited(number):
                for part in parts:
                    tell(f"{part.label or ', '.join(part.names)} on {number} cores")
                    yield from lines(part, trees, repeats, number)


def write(path: Path, commit: str, repeats: int, found: Sequence[Line]) -> None:
    """Write what was measured so far as JSON."""
    content = {
        "against": commit_of(commit),
        "this": commit_of("HEAD"),
        "processor": _processor(),
        "turns": repeats,
        "rows": [line.content() for line in found],
    }
    text = json.dumps(content, indent=1) + "\n"
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _processor() -> str:
    """Return the name of the processor, and how many cores this process may use."""
    cores = len(os.sched_getaffinity(0))
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{cores} cores of {names[0] if names else 'an unnamed processor'}"


def markdown(contents: Iterable[dict[str, Any]]) -> str:
    """Return what files of results hold as one table in Markdown."""
    rows = [row for content in contents for row in content["rows"]]
    text = "| part | cores | time | before | after | ratio | quartiles |\n"
    text += "|---|---:|---|---:|---:|---:|---|\n"
    for row in rows:
        start = f"| {row['part']} | {row['cores']} |"
        if "reason" in row:
            text += f"{start} | | | | {row['reason']} |\n"
        for kind in ("cpu", "wall"):
            if f"{kind}_ratio" in row:
                sides = [row[f"{kind}_{side}_seconds"] for side in ("before", "after")]
                before, after = (f"{statistics.median(its):.3f} s" for its in sides)
                low, high = row[f"{kind}_ratio_quartiles"]
                ratio = f"{row[f'{kind}_ratio']:.2f} | {low:.2f} to {high:.2f}"
                text += f"{start} {kind.replace('cpu', 'CPU')} | {before} | {after} | {ratio} |\n"
    return text


def show(found: Sequence[Line], commit: str, console: Console) -> None:
    """Print the table."""
    title = f"{commit} (before) and this code (after), {_processor()}"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("part")
    for heading in ("cores", "CPU before", "after", "ratio", "wall before", "after", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in found:
        if not line.reason:
            cells = [cell for kind in ("cpu", "wall") for cell in _cells(line, kind)]
            table.add_row(line.label, str(line.cores), *cells)
    console.print(table)
    console.print(
        "Medians in seconds, and the quartiles of the ratio after / before, which is below 1 where"
        " this code is faster. CPU time is that of a process and of its children."
    )
    for line in found:
        if line.reason:
            console.print(f"{line.label}, {line.cores} cores: {line.reason}")


def _cells(line: Line, kind: str) -> list[str]:
    if not (ratios := line.ratios(kind)):
        return ["–"] * 3
    seconds = [
        quartiles([getattr(its, kind) for its in side])[1] for side in (line.before, line.after)
    ]
    low, middle, high = quartiles(ratios)
    return [*(f"{its:.3f}" for its in seconds), f"{middle:.2f} {low:.2f}–{high:.2f}"]
