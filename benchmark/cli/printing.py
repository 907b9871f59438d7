"""How commands show what they measure: their progress, and metrics in their units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from benchmark.cli.options import console

if TYPE_CHECKING:  # Help must not import pandas.
    import pandas as pd

    from benchmark.data.refer import ReferDataset
    from benchmark.evaluation.bootstrap import Mean
    from benchmark.evaluation.records import Prediction


@contextmanager
def image_progress(dataset: ReferDataset, split: str) -> Iterator[Callable[[Prediction], None]]:
    """Show a progress bar over the images of a split, and yield its callback for each image."""
    total = len({ref.image_id for ref in dataset.refs_of(split)})
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"evaluating {split}", total=total)
        yield lambda prediction: progress.advance(bar)


def print_metrics(
    title: str,
    numbers: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Print metrics in their units, with their intervals where there are some."""
    from benchmark.evaluation import metrics

    def shown(name: str, value: float) -> str:
        return f"{metrics.get(name).factor * value:.2f}"

    rows = []
    for name, value in numbers.items():
        row = [_label(name), "-" if value != value else shown(name, value)]
        if intervals:
            low, high = intervals[name]
            # A single image cannot be resampled, so its interval is NaN.
            row.append("none" if low != low else f"[{shown(name, low)}, {shown(name, high)}]")
        rows.append(row)
    columns = ["metric", "value"] + ["95 % interval (images resampled)"] * bool(intervals)
    print_table(title, columns, rows)


def print_differences(title: str, differences: Mapping[str, Mean]) -> None:
    """Print paired differences in the units of their metrics, with their intervals."""
    from benchmark.evaluation import metrics

    rows = []
    for name, difference in differences.items():
        factor = metrics.get(name).factor
        low, high = (factor * end for end in difference.interval)
        interval = "none" if low != low else f"[{low:.2f}, {high:.2f}]"
        value = factor * difference.value
        rows.append([_label(name), "-" if value != value else f"{value:+.2f}", interval])
    print_table(title, ["metric", "difference", "95 % interval (images resampled)"], rows)


def print_text_blind(numbers: Mapping[str, float]) -> None:
    """Print what masks score that ignore the sentence."""
    from benchmark.evaluation.text_blind_scores import HEADINGS

    cells = {HEADINGS[name]: f"{100 * value:.2f}" for name, value in numbers.items()}
    print_table("mIoU without reading the sentence", ["mIoU of", "percent"], cells.items())


def print_noise(numbers: pd.DataFrame) -> None:
    """Print mean and standard deviation of the metrics over seeds of a method's noise.

    Args:
        numbers: one row for each seed and one column for each metric.
    """
    from benchmark.evaluation import metrics

    rows = []
    for name in numbers:
        shown = metrics.get(name).factor * numbers[name]
        rows.append([_label(name), f"{shown.mean():.2f}", f"{shown.std(ddof=1):.2f}"])
    title = f"over {len(numbers)} noise seeds"
    print_table(title, ["metric", "mean", "standard deviation"], rows)


def _label(name: str) -> str:
    """Return the heading of a metric in a table, with its unit."""
    from benchmark.evaluation import metrics

    metric = metrics.get(name)
    return f"{metric.heading}, {'%' if metric.unit == 'percent' else metric.unit}"


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table under a title."""
    console.print(title, style="italic", soft_wrap=True)
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*map(Text, row))  # An interval in brackets would be read as markup.
    console.print(table)
