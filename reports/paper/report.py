"""Writes the tables of papers, each as Markdown, LaTeX and HTML."""

import re
from collections.abc import Sequence

import pandas as pd

from reports.claims.arm import identity
from reports.claims.paper import Paper
from reports.claims.table import Answered
from reports.collected import Collected
from reports.layout import html, latex, markdown
from reports.layout.block import Block
from reports.paper import plan, published

LEGEND = (
    "a ± b (n): mean over n seeds and half of its 95 % interval. ▲ better and ▼ worse than the row"
    " that it is compared with, = no relevant difference, ? undecided: the verdict of the test"
    " splits, which alone prints in bold. paper: the published number."
)
DEFINITIONS = (
    "Our numbers in a paper's own table are of its data, network and recipe, measured by its"
    " protocol. What other runs say stands in the same layout below, without published numbers.",
    "A row of the paper whose system is no method of the suite says so.",
)


def names(papers: Sequence[Paper]) -> list[str]:
    """Return the names of the tables, in the order of the papers."""
    return [
        name_of(paper.paper, table.id or table.place)
        for paper in papers
        if not paper.waits_for
        for table in paper.tables
    ]


def tables(
    its: Answered, collected: Collected, table: pd.DataFrame, papers: Sequence[Paper]
) -> dict[str, list[Block]]:
    """Return the tables by name, such as `maskris-table2`, in the order of the papers.

    Args:
        its: what runs say to the claims of all papers.
        collected: the runs of a plan.
        table: what `compare.comparison` returns of them.
        papers: the papers.
    """
    words = {planned.cell.key: planned.words for planned in collected.unfinished}
    states = {identity(spec): words[key] for spec in collected.specs if (key := spec.key) in words}
    compared = plan.compared(collected, table)
    found = {}
    for paper in papers:
        for of in paper.tables if not paper.waits_for else ():
            own = published.blocks(its, paper, of, states)
            own += filter(
                None, (plan.block(paper, of, *each, collected) for each in compared.items())
            )
            found[name_of(paper.paper, of.id or of.place)] = own
    return found


def files(name: str, blocks: Sequence[Block]) -> dict[str, str]:
    """Return a table as `<name>.md`, `.tex` and `.html`."""
    title = blocks[0].title
    heads = [title, LEGEND, *DEFINITIONS]
    return {
        f"{name}.md": markdown.document(
            [*map(markdown.table, blocks), LEGEND, markdown.bullets(DEFINITIONS)]
        ),
        f"{name}.tex": latex.comments(heads) + "\n".join(latex.tabular([its]) for its in blocks),
        f"{name}.html": html.document(title, blocks, LEGEND, DEFINITIONS),
    }


def name_of(paper: str, place: str) -> str:
    """Return the name of a table's files, such as `maskris-table2`."""
    place = re.sub(r"(?i)(table|fig)\W+", r"\1", place)
    return re.sub(r"[^a-z0-9]+", "-", f"{paper} {place}".lower()).strip("-")
