"""The display of jobs while they run.

A terminal shows moving lines, and a log file gets a line now and then.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmark.runs.rundir import RunDir

REPORT_SECONDS = 30  # The time between two lines where the output is no terminal.


@dataclasses.dataclass(frozen=True)
class Share:
    """How far a job is.

    Attributes:
        step: the number of steps that are done.
        steps: the number of all steps, or 0 where the job has not said so yet.
        note: what the job does, or how well it does.
    """

    step: int = 0
    steps: int = 0
    note: str = ""

    @property
    def words(self) -> str:
        """The share in percent, or the note where the share is not known."""
        return f"{100 * self.step / self.steps:.0f} %" if self.steps else self.note or "starting"


def share_of(folder: Path | None, makes: Sequence[Path] = ()) -> Share:
    """Return how far a job is.

    A job that makes many files is as far as they are, those counted that were there before. They
    are looked at themselves, so a job that was killed or adopted shows no more than it has made. Of
    other jobs, that of a run alone says how far it is.

    Args:
        folder: the folder of the job, if it has one.
        makes: the files that it makes.
    """
    if makes:
        return Share(sum(path.exists() for path in makes), len(makes), "results")
    if folder is None or not (folder / "status.json").exists():
        return Share(note="running")
    status = RunDir(folder).recorded_status()
    note = status.message or (status.state if status.steps else "")
    # The selection metric is -1 before the first evaluation.
    if status.best is not None and status.best >= 0:
        note += f"  best {100 * status.best:.1f}"
    return Share(status.step, status.steps, note)


class Display:
    """Shows how many jobs are done and how far the running ones are.

    Args:
        console: the console to print on.
        what: what is counted, in the plural, such as "runs".
        total: the number of all jobs.
    """

    def __init__(self, console: Console, what: str, total: int) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:>6.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self.console = console
        self.what = what
        self.total = total
        self.progress = Progress(
            *columns, console=console, refresh_per_second=2, disable=not console.is_terminal
        )
        self.whole = self.progress.add_task(what, total=total, note="")
        self.lines: dict[str, TaskID] = {}

    def __enter__(self) -> "Display":
        self.reported = time.monotonic()
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def tell(self, line: str) -> None:
        """Print a line that stays, such as what became of a job."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, done: int, running: Mapping[str, Share], note: str = "") -> None:
        """Bring the display up to date.

        Args:
            done: how many jobs are done.
            running: name -> how far the job is, for each running one.
            note: a note on all jobs, such as how many have failed.
        """
        self.progress.update(self.whole, completed=done, note=note)
        for name in self.lines.keys() - running.keys():
            self.progress.remove_task(self.lines.pop(name))
        for name, share in running.items():
            if name not in self.lines:
                self.lines[name] = self.progress.add_task(f"  {name}", total=1, note="")
            self.progress.update(
                self.lines[name],
                completed=share.step,
                total=share.steps or 1,
                note=share.note or share.words,
            )
        if not self.console.is_terminal and time.monotonic() - self.reported >= REPORT_SECONDS:
            self.reported = time.monotonic()
            shares = ", ".join(f"{name} {share.words}" for name, share in running.items())
            more = f" ({note})" if note else ""
            self.tell(
                f"{done} of {self.total} {self.what} done{more}, {len(running)} running:"
                f" {shares or 'none'}"
            )
