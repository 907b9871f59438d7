"""Makes the page: it gathers what runs say, and writes it down as one file without a dependency.

Nothing here depends on when or where it is made, so the same runs give the same bytes. The page
asks nothing of a network, and its policy forbids it to.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from benchmark.evaluation import examples
from benchmark.runs.costs import Costs
from reports import labels, notes
from reports.claims.table import Answered
from reports.collected import Collected
from reports.layout import html, signs
from reports.layout.block import Block
from reports.matrix.report import Report
from reports.page import claims, curves, gallery, named, robustness, runs, studies, summary
from reports.robustness.finished import Finished

LINES = 300  # of every finished run, beyond which the page names the file that lists them
LEGEND = f"{signs.legend()} {notes.LEGEND}"


@dataclasses.dataclass(frozen=True)
class Page:
    """What the page shows.

    Attributes:
        title: name of the plan.
        description: of the plan.
        sentence: what was run and found.
        counts: state -> number of planned runs.
        strategies: labels, the reference first, in the order of their colors.
        comparison: tables of what each strategy changes, and of text-blind baselines.
        finished: tables of every finished run with all its metrics.
        footnotes: what stands under them.
        definitions: what the numbers mean.
        unfinished: table of the planned runs that are not finished, or None.
        plan: table of how far every cell of the plan is.
        claims: what runs say to claims, or None where nobody asked.
        studies: of the folder of runs.
        curves: learning curves.
        robustness: under corruptions, occlusion and covered words, or None.
        gallery: examples, or None.
        costs: tables of what runs cost.
        runs: facts of every run that has begun.
        tracking: web address of the tracking store, or "".
    """

    title: str
    description: str
    sentence: str
    counts: dict[str, int]
    strategies: list[str]
    comparison: Sequence[Block]
    finished: Sequence[Block]
    footnotes: Sequence[str]
    definitions: Sequence[str]
    unfinished: Block | None
    plan: Block
    claims: claims.Claims | None
    studies: Sequence[studies.Study]
    curves: Sequence[curves.Curves]
    robustness: robustness.Robustness | None
    gallery: gallery.Gallery | None
    costs: Sequence[Block]
    runs: Sequence[runs.RunFacts]
    tracking: str


def page(
    collected: Collected,
    matrix: Report,
    folder: Path,
    answered: Answered | None = None,
    measured: Mapping[str, Costs] | None = None,
    costs: Sequence[Block] = (),
    conditions: Finished | None = None,
    tracking: str | None = None,
) -> Page:
    """Return the page of a plan.

    Args:
        collected: the runs.
        matrix: their tables, which every format shows alike.
        folder: of the run directories, and of `examples/` and the plans of studies.
        answered: what the runs say to claims.
        measured: key of a run -> what it cost [nothing was measured].
        costs: tables of what the runs cost.
        conditions: what the runs have under corruptions and the like [nothing].
        tracking: address of the tracking store. Only one that begins with http is linked.

    Raises:
        UserError: a file of a run or of the examples is damaged. The message names it.
    """
    names = named.named(collected.specs)
    return Page(
        title=matrix.title,
        description=matrix.description,
        sentence=summary.sentence(collected, matrix.table),
        counts=runs.counts(collected.planned),
        strategies=[*labels.strategy_labels(collected.specs)],
        comparison=[*matrix.compared, *matrix.text_blind],
        finished=matrix.runs,
        footnotes=matrix.footnotes,
        definitions=matrix.definitions,
        unfinished=runs.unfinished(collected, names),
        plan=runs.grid(collected, names),
        claims=claims.claims(answered) if answered else None,
        studies=studies.studies(folder, collected.group),
        curves=curves.curves(names, folder),
        robustness=robustness.robustness(collected, conditions),
        gallery=gallery.gallery(names, examples.folder(folder, matrix.title)),
        costs=costs,
        runs=runs.facts(collected, names, folder, measured or {}),
        tracking=without_password(tracking) if tracking and tracking.startswith("http") else "",
    )


def without_password(address: str) -> str:
    """Return a web address without user and password, since a page is sent to others."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def as_html(its: Page) -> str:
    """Return the page as the text of one HTML file."""
    template = html.environment(("reports", "page/templates")).get_template("index.html")
    styles = [named.style(look) for look in range(len(its.strategies))]
    return template.render(page=its, legend=LEGEND, styles=styles, most_lines=LINES)
