"""The parts of a plan's report by name. Each is made only where it is asked for.

Nothing here depends on when or where it is made, so the same runs give the same bytes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark.base.errors import UserError, choose
from benchmark.evaluation import examples
from benchmark.runs.comparisons import planned_comparisons
from benchmark.runs.costs import Costs, read_costs
from benchmark.runs.rundir import RunDir
from reports import costs, figures, labels
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
class Part:
    """A part of a report.

    Attributes:
        make: returns its files.
        folder: that holds its files alone, or "".
        missing: what makes it, where there is nothing to write yet.
    """

    make: Callable[[], Contents]
    folder: str = ""
    missing: str = "no run of this plan has what it shows"


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
        return matrix.made(self.collected, self.table, self.against, self.runs)

    @functools.cached_property
    def answered(self) -> Answered:
        """What the runs of the folder say to claims, whatever plan they are of."""
        return answered(read_claims(self.claims), self.runs, self.collected.runs)

    @functools.cached_property
    def measured(self) -> dict[str, Costs]:
        """Key of a run -> what it cost, of the runs that were measured."""
        every = {run.key: read_costs(RunDir(self.runs / run.key)) for run in self.collected.runs}
        return {key: its for key, its in every.items() if its}

    @functools.cached_property
    def costs(self) -> pd.DataFrame:
        """What `costs.table` returns of the runs."""
        return costs.table(settings(self.collected), self.measured)

    @functools.cached_property
    def conditions(self) -> Finished | None:
        """What the runs have under corruptions, occlusion and covered words, or None."""
        family = planned_comparisons(self.collected.group, self.collected.specs)
        return finished(self.collected, self.runs, family)

    @functools.cached_property
    def papers(self) -> dict[str, list[Block]]:
        """The tables of papers, by name."""
        return paper.tables(self.answered, self.collected, self.table, self._papers)

    @functools.cached_property
    def _papers(self) -> list[Paper]:
        return read_papers(self.claims)

    @property
    def parts(self) -> dict[str, Part]:
        """The parts by name, in the order in which they are written.

        Compared with another strategy than the reference, a plan has those parts alone that are
        about this comparison.
        """
        parts = {
            "table": Part(lambda: matrix.contents(self.matrix)),
            "differences": Part(self._differences, "figures"),
        }
        if self.against:
            return parts
        return {
            **parts,
            "costs": Part(self._costs),
            "robustness": Part(self._robustness, "robustness", "`risbench robustness` makes it"),
            "examples": Part(self._examples, "examples", "`risbench examples` cuts some"),
            "claims": Part(lambda: claims_report.contents(self.answered)),
            **{name: Part(functools.partial(self._paper, name)) for name in self._tables},
            "index": Part(lambda: {"index.html": page.as_html(self._page())}),
        }

    def write(self, out: Path, only: Sequence[str] | None = None) -> list[Path]:
        """Write the report, and return the paths of its files.

        Args:
            out: holds the folder of the report.
            only: names of parts as `_named` takes them, such as `table2` or `fig6` [all].

        Raises:
            UserError: there is no such part (the message lists the nearest ones), there is nothing
                to write for it yet, or `out` cannot be written.
        """
        parts = self.parts
        chosen = parts if only is None else {part: parts[part] for part in self._chosen(only)}
        made = {name: part.make() for name, part in chosen.items()}
        for name in only or ():
            if not any(made[part] for part in self._chosen([name])):
                why = [parts[part].missing for part in self._chosen([name])]
                raise UserError(f"there is nothing to write for '{name}' yet: {why[0]}.")
        contents = {file: content for its in made.values() for file, content in its.items()}
        owned = [part.folder for part in chosen.values() if part.folder]
        owned += ["paper"] if only is None and not self.against else []
        return files.write(out / self.matrix.folder, contents, owned)

    def _chosen(self, names: Sequence[str]) -> list[str]:
        """Return the parts that names stand for, each once."""
        parts = self.parts
        if not names:
            raise UserError(f"--only names no part: name some of {', '.join(parts)}.")
        # A paper's figure is drawn by a part that draws others, too.
        drawn = {
            paper.name_of(its.paper, place): part
            for its in self._papers
            for place, part in its.figures.items()
        }
        known = {name: name for name in parts} | drawn
        chosen = [known[place] for name in names for place in _named(name, known)]
        for part in chosen:
            if part not in parts:
                raise UserError(part)
        return [*dict.fromkeys(chosen)]

    @functools.cached_property
    def _tables(self) -> list[str]:
        return paper.names(self._papers)

    def _differences(self) -> Contents:
        reference = labels.reference(self.collected.specs, self.against)
        drawn = figure.draw(self.table, self.collected.group.primary, reference)
        made = figures.contents_of(drawn)
        return {f"figures/{name}": content for name, content in made.items()}

    def _robustness(self) -> Contents:
        name = self.collected.group.name
        return robustness.contents(name, self.conditions) if self.conditions else {}

    def _examples(self) -> Contents:
        place = examples.folder(self.runs, self.collected.group.name)
        drawn = example_figures.draw(place, settings(self.collected))
        return {f"examples/{name}": content for name, content in drawn.items()}

    def _costs(self) -> Contents:
        blocks = map(markdown.table, costs.blocks(self.costs))
        text = markdown.document(["# Costs", *blocks, markdown.bullets(costs.DEFINITIONS)])
        return {"costs.md": text, "costs.csv": files.csv(self.costs)}

    def _paper(self, name: str) -> Contents:
        blocks = self.papers[name]
        # A figure of which the paper prints no number is no table.
        return paper.files(f"paper/{name}", blocks) if blocks else {}

    def _page(self) -> page.Page:
        return page.page(
            self.collected,
            self.matrix,
            self.runs,
            answered=self.answered,
            measured=self.measured,
            costs=costs.blocks(self.costs) if self.measured else [],
            conditions=self.conditions,
            tracking=self.tracking,
        )


def _named(name: str, known: Sequence[str]) -> list[str]:
    """Return the names that `name` stands for, whatever its capitals are.

    It may be one of them, the end of one after a hyphen (`table2` of `maskris-table2`), or such an
    end without its last letter (`fig6` of `maskris-fig6a`).
    """
    name = name.lower()
    for fits in (
        lambda its: its == name,
        lambda its: its.endswith(f"-{name}"),
        lambda its: its[:-1].endswith(f"-{name}") and its[-1].isalpha(),
    ):
        if found := [its for its in known if fits(its)]:
            return found
    return [choose(name, known, "part of the report")]
