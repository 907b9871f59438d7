"""The parts of a plan's report by name. Each is made only where it is asked for.

Nothing here depends on when or where it is made, so the same runs give the same bytes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from benchmark.base.errors import choose
from benchmark.evaluation import examples
from benchmark.runs.comparisons import planned_comparisons
from benchmark.runs.costs import Costs, read_costs
from benchmark.runs.rundir import RunDir
from reports import costs, labels
from reports.claims import report as claims_report
from reports.claims.claims import read_claims
from reports.claims.paper import Paper, read_papers
from reports.claims.table import Answered, answered
from reports.collected import Collected
from reports.compare import settings
from reports.examples import figures as example_figures
from reports.layout import files, markdown
from reports.layout.block import Block
from reports.matrix import figure
from reports.matrix import report as matrix
from reports.page import report as page
from reports.paper import report as paper
from reports.robustness import report as robustness
from reports.robustness.finished import Finished, finished

Contents = Mapping[str, str | bytes]
"""File name, with its folder -> content."""


@dataclasses.dataclass(frozen=True)
class PlanReport:
    """What the finished runs of a plan say, of which parts are made when they are asked for.

    Attributes:
        collected: the runs.
        table: what `compare.comparison` returns of them.
        runs: folder of the run directories.
        against: name of the strategy that the others are compared with [the reference].
        claims: folder with further claims [none].
        tracking: address of the tracking store [none].
    """

    collected: Collected
    table: pd.DataFrame
    runs: Path
    against: str | None = None
    claims: Path | None = None
    tracking: str | None = None

    @functools.cached_property
    def matrix(self) -> matrix.Report:
        """The compared strategies and every finished run."""
        return matrix.made(self.collected, self.table, self.against)

    @functools.cached_property
    def answered(self) -> Answered:
        """What the runs of the folder say to claims, whatever plan they are of."""
        return answered(read_claims(self.claims), self.runs, self.collected.runs)

    @functools.cached_property
    def costs(self) -> dict[str, Costs]:
        """Key of a run -> what it cost, of the runs that were measured."""
        every = {run.key: read_costs(RunDir(self.runs / run.key)) for run in self.collected.runs}
        return {key: its for key, its in every.items() if its}

    @functools.cached_property
    def conditions(self) -> Finished | None:
        """What the runs have under corruptions, occlusion and covered words, or None."""
        family = planned_comparisons(self.collected.group, self.collected.specs, self.against)
        return finished(self.collected, self.runs, family)

    @functools.cached_property
    def papers(self) -> dict[str, list[Block]]:
        """The tables of papers, by name."""
        return paper.tables(self.answered, self.collected, self.table, self._papers)

    @functools.cached_property
    def _papers(self) -> list[Paper]:
        return read_papers(self.claims)

    @property
    def parts(self) -> dict[str, Callable[[], Contents]]:
        """Name of a part -> function that returns its files."""
        return {
            "table": lambda: matrix.contents(self.matrix),
            "differences": self._differences,
            "costs": self._costs,
            "robustness": self._robustness,
            "examples": self._examples,
            "claims": self._claims,
            **{name: functools.partial(self._paper, name) for name in paper.names(self._papers)},
            "index": lambda: {"index.html": page.as_html(self._page())},
        }

    def contents(self, only: list[str] | None = None) -> dict[str, str | bytes]:
        """Return the files of the report.

        Args:
            only: names of parts, of which the end is enough, such as `table2` [all].

        Raises:
            UserError: there is no such part. The message lists the nearest ones.
        """
        parts = self.parts
        if only is None:
            return {name: content for make in parts.values() for name, content in make().items()}
        # A paper's figure is drawn by a part that draws others, too.
        known = parts | {
            paper.name_of(its.paper, place): parts[part]
            for its in self._papers
            for place, part in its.figures.items()
        }
        made = [known[_named(name, known)] for name in only]
        return {name: content for make in made for name, content in make().items()}

    def _differences(self) -> Contents:
        reference = labels.reference(self.collected.specs, self.against)
        drawn = figure.draw(self.table, self.collected.group.primary, reference)
        return {f"figures/{name}": content for name, content in drawn.items()}

    def _robustness(self) -> Contents:
        if self.conditions is None:
            return {}
        its = self.conditions
        name = self.collected.group.name
        said = f"{its.conditions} conditions of {len(self.collected.runs)} runs"
        made = robustness.contents(name, said, its.every, its.table, None)
        return {f"robustness/{name}": content for name, content in made.items()}

    def _examples(self) -> Contents:
        place = examples.folder(self.runs, self.collected.group.name)
        drawn = example_figures.draw(place, settings(self.collected))
        return {f"examples/{name}": content for name, content in drawn.items()}

    def _costs(self) -> Contents:
        made = settings(self.collected)
        blocks = map(markdown.table, costs.blocks(made, self.costs))
        text = markdown.document(["# Costs", *blocks, markdown.bullets(costs.DEFINITIONS)])
        return {"costs.md": text, "costs.csv": files.csv(costs.table(made, self.costs))}

    def _paper(self, name: str) -> Contents:
        blocks = self.papers[name]
        # A figure of which the paper prints no number is no table.
        return paper.files(f"paper/{name}", blocks) if blocks else {}

    def _claims(self) -> Contents:
        return {
            "claims.md": claims_report.as_markdown(self.answered),
            "claims.csv": files.csv(self.answered.table),
        }

    def _page(self) -> page.Page:
        return page.page(
            self.collected,
            self.matrix,
            self.runs,
            self.answered,
            self.costs,
            self.conditions,
            self.against,
            self.tracking,
        )


def _named(name: str, parts: Mapping[str, object]) -> str:
    """Return the part that `name` names, alone or as its end after a hyphen."""
    ends = [part for part in parts if part.endswith(f"-{name}")]
    return ends[0] if len(ends) == 1 else choose(name, parts, "part of the report")
