"""The report of a preset as Markdown, CSV, LaTeX and HTML, and in the terminal, made once for all.

Nothing here depends on when or where it is made, so the same runs give the same bytes.
"""

import dataclasses
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmark import strategies
from benchmark.runs.comparisons import planned_comparisons
from reports import labels, notes
from reports.collected import Collected
from reports.compare import points
from reports.layout import files, html, latex, markdown, terminal
from reports.layout.block import Block
from reports.matrix import compared, every_run, limits, rivals, text_blind

RUNS_IN_TERMINAL = 40  # beyond them a terminal says where they stand


@dataclasses.dataclass(frozen=True)
class Report:
    """All that is written and printed of a plan's finished runs.

    Attributes:
        folder: name of its folder.
        title: the name of the plan.
        description: of the plan.
        table: what `compare.comparison` returns.
        compared: the tables of strategies and of rivals, which come first.
        text_blind: the tables of weak supervision beside baselines that see no sentence.
        runs: the tables of every finished run.
        footnotes: what the tables leave out, what casts doubt on them, and what code made the runs.
        definitions: how the numbers are to be read, which comes last.
    """

    folder: str
    title: str
    description: str
    table: pd.DataFrame
    compared: list[Block]
    text_blind: list[Block]
    runs: list[Block]
    footnotes: list[str]
    definitions: list[str]


def made(
    collected: Collected,
    table: pd.DataFrame,
    against: str | None = None,
    folder: Path | None = None,
) -> Report:
    """Return the report of finished runs.

    Args:
        collected: the runs.
        table: what `compare.comparison` returns of the same runs.
        against: name of the strategy that the others are compared with [the reference]. It then
            stands in the name of the folder.
        folder: of the run directories. Without it there are no tables of text-blind baselines.

    Raises:
        UserError: what a run keeps of its text-blind baselines is damaged.
    """
    group = collected.group
    return Report(
        folder=group.name + (f"-against-{against}" if against else ""),
        title=group.name,
        description=group.description,
        table=table,
        compared=[
            *_compared(collected, table, against),
            *([] if against else rivals.blocks(collected)),
        ],
        text_blind=text_blind.blocks(collected, folder) if folder else [],
        runs=every_run.blocks(points(collected)),
        footnotes=[
            *notes.footnotes(collected, table),
            *(limits.warnings(collected, folder) if folder else []),
        ],
        definitions=definitions(collected, against),
    )


def contents(report: Report) -> dict[str, str]:
    """Return `table.md`, `table.csv`, `table.tex` and `table.html`.

    The CSV holds fractions with six decimals, and lists with a space between their entries.
    """
    known = [*report.footnotes, *report.definitions]
    blocks = [*report.compared, *report.text_blind, *report.runs]
    return {
        "table.md": as_markdown(report),
        "table.csv": files.csv(report.table),
        "table.tex": as_latex(report),
        "table.html": html.document(report.title, blocks, notes.LEGEND, known),
    }


def as_markdown(report: Report) -> str:
    """Return the whole report as Markdown that also reads well as plain text."""
    return markdown.document(
        [
            f"# {report.title}",
            report.description,
            *map(markdown.table, report.compared),
            *map(markdown.table, report.text_blind),
            notes.LEGEND,
            markdown.bullets(report.footnotes),
            "## Every finished run",
            *map(markdown.table, report.runs),
            "## How to read the numbers",
            markdown.bullets(report.definitions),
        ]
    )


def as_latex(report: Report) -> str:
    """Return the compared strategies as one tabular. What must be known stands in comments."""
    known = [*report.definitions, *report.footnotes]
    return latex.comments([report.title, *known]) + latex.tabular(report.compared)


def render(console: Console, report: Report) -> None:
    """Print the same tables and footnotes, as wide as the terminal."""
    shown = [*report.compared, *report.text_blind]
    known = [notes.LEGEND, *report.footnotes]
    count = sum(len(block.lines) for block in report.runs)
    if count <= RUNS_IN_TERMINAL:
        shown = shown + report.runs
    else:
        known.append(f"table.md lists every finished run, which are {count} lines.")
    terminal.print_blocks(console, shown, known, console.width)


def _compared(collected: Collected, table: pd.DataFrame, against: str | None) -> list[Block]:
    known = labels.strategy_labels(collected.specs)
    # A strategy of which no run has begun heads its column all the same.
    begun = {strategy.name for strategy in known.values()}
    cells = [planned.cell for planned in collected.planned if not planned.cell.name]
    planned = {cell.strategy for cell in cells} - begun
    others = sorted(strategies.get(name).heading for name in planned)
    return compared.blocks(table, [*known, *others], labels.reference(collected.specs, against))


def definitions(collected: Collected, against: str | None = None) -> list[str]:
    """Return how the numbers are to be read, as far as it applies to these runs."""
    family = len(planned_comparisons(collected.group, collected.specs, against))
    return [
        notes.ENTERING,
        notes.metrics_note(collected.runs),
        notes.INTERVAL,
        notes.DIFFERENCE,
        "a ± b is the mean and the sample standard deviation (ddof = 1) over the seeds that both"
        " strategies have. A number without ± is from one seed.",
        notes.verdicts(collected.group, family),
        *([] if against else rivals.notes(collected)),
        notes.SELECTION,
        *notes.strategies(collected.specs),
        *notes.about(collected.specs),
        "table.csv holds fractions, every metric, seed, run key, commit and epoch. Its p is the"
        " p-value of one comparison, and p_holm that after Holm.",
    ]
