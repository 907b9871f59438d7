"""Writes the report of a preset as Markdown, CSV and LaTeX and prints it, from one comparison.

Nothing here depends on when or where it is made, so the same runs give the same bytes.
"""

from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmark import strategies
from benchmark.runs.comparisons import planned_comparisons
from reports import labels, notes
from reports.collected import Collected
from reports.compare import points
from reports.layout import files, latex, markdown, terminal
from reports.layout.block import Block
from reports.matrix import compared, every_run

WIDTH = 110  # columns of the terminal that a table may take


def write(
    collected: Collected, table: pd.DataFrame, out: Path, against: str | None = None
) -> list[Path]:
    """Write `table.md`, `table.csv` and `table.tex`, and return their paths.

    Args:
        collected: the runs.
        against: name of the strategy that the others are compared with [the reference]. It then
            stands in the name of the folder.
        table: what `compare.comparison` returns of the same runs. The CSV holds it as fractions
            with six decimals, and lists with a space between their entries.
        out: holds the folder of the report, which is called by the name of the plan.

    Raises:
        UserError: `out` cannot be written.
    """
    contents = {
        "table.md": as_markdown(collected, table, against),
        "table.csv": files.csv(table),
        "table.tex": as_latex(collected, table, against),
    }
    name = collected.group.name + (f"-against-{against}" if against else "")
    return files.write(out / name, contents)


def as_markdown(collected: Collected, table: pd.DataFrame, against: str | None = None) -> str:
    """Return the whole report as Markdown that also reads well as plain text."""
    group = collected.group
    return markdown.document(
        [
            f"# {group.name}",
            group.description,
            markdown.bullets(definitions(collected, against)),
            "## Strategies compared",
            *map(markdown.table, _compared(collected, table, against)),
            markdown.bullets(notes.footnotes(collected, table)),
            "## Every finished run",
            *map(markdown.table, every_run.blocks(points(collected))),
        ]
    )


def as_latex(collected: Collected, table: pd.DataFrame, against: str | None = None) -> str:
    """Return the compared strategies as one tabular. What must be known stands in comments."""
    known = [*definitions(collected, against), *notes.footnotes(collected, table)]
    head = latex.comments([collected.group.name, *known])
    return head + latex.tabular(_compared(collected, table, against))


def render(
    console: Console, collected: Collected, table: pd.DataFrame, against: str | None = None
) -> None:
    """Print the same tables and footnotes to the terminal, at most `WIDTH` columns wide."""
    blocks = [*_compared(collected, table, against), *every_run.blocks(points(collected))]
    width = min(console.width, WIDTH)
    terminal.print_blocks(console, blocks, notes.footnotes(collected, table), width)


def _compared(collected: Collected, table: pd.DataFrame, against: str | None) -> list[Block]:
    known = labels.strategy_labels(collected.specs)
    # A strategy of which no run has begun heads its column all the same.
    begun = {strategy.name for strategy in known.values()}
    planned = {planned.cell.strategy for planned in collected.planned} - begun
    others = sorted(strategies.get(name).heading for name in planned)
    return compared.blocks(table, [*known, *others], labels.reference(collected.specs, against))


def definitions(collected: Collected, against: str | None = None) -> list[str]:
    """Return how the numbers are to be read, as far as it applies to these runs."""
    family = len(planned_comparisons(collected.group, collected.specs, against))
    return [
        notes.ENTERING,
        notes.metrics_note(),
        notes.INTERVAL,
        notes.DIFFERENCE,
        "a ± b is the mean and the sample standard deviation (ddof = 1) over the seeds that both"
        " strategies have. A number without ± is from one seed.",
        notes.verdicts(collected.group, family),
        notes.SELECTION,
        *notes.strategies(collected.specs),
        *notes.about(collected.specs),
        "table.csv holds fractions, every metric, seed, run key, commit and epoch. Its p is the"
        " p-value of one comparison, and p_holm that after Holm.",
    ]
