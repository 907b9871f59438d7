"""The robustness report as Markdown, CSV and figures, and in the terminal, all from one table.

Nothing here depends on when or where it is made, so the same records give the same bytes.
"""

from collections.abc import Sequence

import pandas as pd
from rich.console import Console

from reports.figures import contents_of
from reports.layout import files, markdown, terminal
from reports.layout.block import Block
from reports.robustness import compared, details, figures, ranking, severities, words
from reports.robustness.finished import Finished
from reports.robustness.parts import primary_rows
from reports.robustness.results import Results

FOLDER = "robustness"  # of a plan's report
WIDTH = 110  # columns of the terminal that a table may take


def contents(name: str, its: Finished) -> dict[str, str | bytes]:
    """Return `robustness.md`, `robustness.csv` and the figures, in the folder `robustness`.

    Args:
        name: of the plan.
        its: what its runs have.
    """
    keys = {
        run.key
        for results in its.every
        for by_seed in results.setting.strategies.values()
        for run in by_seed.values()
    }
    said = f"{its.conditions} conditions of {len(keys)} runs."
    made = {
        "robustness.md": as_markdown(name, said, its.every, its.table, its.reference),
        "robustness.csv": files.csv(its.table),
        **contents_of(figures.draw(its.every, its.table)),
    }
    return {f"{FOLDER}/{file}": content for file, content in made.items()}


def as_markdown(
    name: str,
    description: str,
    every: Sequence[Results],
    table: pd.DataFrame,
    reference: str | None,
) -> str:
    """Return the report as Markdown that also reads well as plain text.

    Args:
        name: of the report.
        description: of the report.
        every: runs and their records.
        table: what `table.table` returns of `every`.
        reference: key of the run that corruption errors are relative to, or None.
    """
    return markdown.document(
        [
            f"# Robustness: {name}",
            description,
            markdown.bullets(words.definitions(every, table, reference)),
            "## Ranked by mPC",
            *map(markdown.table, ranking.blocks(every, table)),
            "## Strategies compared",
            *map(markdown.table, compared.blocks(every, table)),
            "## Per corruption, mean over severities",
            *map(markdown.table, details.corruptions(table)),
            "## Per corruption and severity",
            *map(markdown.table, severities.blocks(table)),
            "## Occlusion",
            *map(markdown.table, details.occlusion(table)),
            "## Words covered, one at a time",
            *map(markdown.table, details.words(table)),
            "## Language subsets",
            *map(markdown.table, details.language(table)),
        ]
    )


def render(console: Console, every: Sequence[Results], table: pd.DataFrame) -> None:
    """Print the ranking and the comparison, at most `WIDTH` columns wide."""
    terminal.print_blocks(console, terminal_blocks(every, table), [], min(console.width, WIDTH))


def terminal_blocks(every: Sequence[Results], table: pd.DataFrame) -> list[Block]:
    """Return what a terminal shows, which is about the primary metrics alone."""
    shown = primary_rows(every, table)
    blocks = ranking.blocks(every, shown) + compared.blocks(every, shown)
    return blocks or details.language(shown)
