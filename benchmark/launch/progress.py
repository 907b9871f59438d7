"""TODO."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmark.runs.rundir import RunDir


def show_progress(progress: Progress, bar: TaskID, run: RunDir) -> None:
    """Update a run's line from its status file."""
    status = run.read_json("status.json")
    if status.get("steps"):
        best = status.get("best")
        note = f"  val oIoU {100 * best:.1f}" if best is not None and best >= 0 else ""
        progress.update(
            bar, completed=status["step"], total=status["steps"], note=status.get("message", status["state"]) + note
        )


def progress_lines(console: Console) -> Progress:
    """Return a progress display of one line per run, with a `note` at its end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:>6.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console, refresh_per_second=2)
