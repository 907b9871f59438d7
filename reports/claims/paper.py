"""The file of a paper's claims: which run stands behind each row of its tables, and what it says.

A table names a run for each of its rows. From its published numbers follow two kinds of claims:
a *value* for each number, and a *sign* for each number that a row has beside the row that it is
compared with. What the text says of several comparisons at once is a *statement*.
"""

import functools
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmark.base.errors import choose
from benchmark.base.files import read_model, read_yaml
from studies import study

SHIPPED = Path(__file__).parent / "papers"


class Selector(BaseModel):
    """Rows of published.csv. Fields that are left out fit every row.

    Attributes:
        place: their table, figure or section.
        system: what they are of.
        condition: their setting.
        dataset: their data set, as published.csv calls it.
        split: their split.
        metric: their metric, as published.csv calls it.
        note: the beginning of their note.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    place: str | None = None
    system: str | None = None
    condition: str | None = None
    dataset: str | None = None
    split: str | None = None
    metric: str | None = None
    note: str = ""


class NotAnswerable(Selector):
    """Published numbers that no run can answer, and why.

    Attributes:
        reason: one sentence.
    """

    reason: str


class Row(BaseModel):
    """A row of a published table, and the run that stands behind it.

    Attributes:
        label: what claims call it.
        system: its system in published.csv, or "" where the paper prints no number of the row.
        condition: its condition there, or None where the system says enough.
        note: the beginning of its note there, which tells rows of one system apart.
        method: registered name of the method.
        variant: the size of the method.
        strategy: name of the strategy [the reference].
        settings: changes to the strategy's settings.
        recipe: changes to the recipe.
        epochs: length of the training relative to the recipe's, greater than 0.
        trained_on: data set of the training [that of the published number].
        protocol: published protocol by which its values were measured [the suite's own].
        against: label of the row that it is compared with, or "" for none.
        no_value: why its values cannot be compared with ours, or "" where they can.
        quoted: whether it repeats numbers of another paper, whose claims they then are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    system: str = ""
    condition: str | None = None
    note: str = ""
    method: str
    variant: str = "paper"
    strategy: str = ""
    settings: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    epochs: float = Field(default=1, gt=0)
    trained_on: str = ""
    protocol: str = ""
    against: str = ""
    no_value: str = ""
    quoted: bool = False

    def selector(self, place: str) -> Selector:
        """Return the published numbers of the row in its table."""
        return Selector(place=place, system=self.system, condition=self.condition, note=self.note)


class Table(BaseModel):
    """A published table or figure.

    Attributes:
        place: as published.csv names it.
        id: what the ids of its claims call it [the place].
        grid: shipped study whose rows are those of the table, in place of `rows`.
        protocol: of the values of a grid's rows.
        rows: at least one, unless there is a grid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    place: str
    id: str = ""
    grid: str = ""
    protocol: str = ""
    rows: tuple[Row, ...] = ()

    @model_validator(mode="after")
    def _labels(self) -> "Table":
        labels = [row.label for row in self.rows]
        if bool(labels) == bool(self.grid) or len(set(labels)) < len(labels):
            raise ValueError("a table has either a grid, or rows with labels of their own")
        for row in self.rows:
            if row.against and row.against not in labels:
                raise ValueError(f"row '{row.label}' is against '{row.against}', which is no row")
        return self

    def every_row(self) -> tuple[Row, ...]:
        """Return the rows, which for a grid are those of the study.

        Raises:
            UserError: there is no such study.
        """
        return _grid_rows(self.grid, self.protocol) if self.grid else self.rows


@functools.cache
def _grid_rows(name: str, protocol: str) -> tuple[Row, ...]:
    """Return the rows of a shipped grid."""
    grid = study.read_study(name)
    grid = study.read_study(name, grid.variant)
    return tuple(
        Row(
            label=row.label,
            system=grid.system_of(row) if row.published else "",
            condition=row.published,
            method=grid.method,
            variant=grid.variant,
            strategy=row.strategy or grid.strategy,
            settings=row.settings,
            recipe={**grid.recipe, **row.recipe},
            epochs=row.epochs,
            protocol=protocol,
            against="" if row.label == grid.reference else grid.reference,
            no_value=row.no_value,
        )
        for row in grid.rows
    )


class Statement(BaseModel):
    """A sentence about several comparisons, which is right where each of them is.

    Attributes:
        id: what commands call it, after the paper's name.
        place: where the paper says it.
        text: the sentence.
        dataset: as published.csv calls it.
        splits: on which each part is asked, at least one.
        metric: as published.csv calls it.
        corruptions: named set of corruptions. Each part is then asked under each of them, as the
            mean over severities.
        parts: pairs of rows, each as "PLACE: LABEL". The first is said to be better.
        published: numbers of the paper that the sentence is about.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    place: str
    text: str
    dataset: str
    splits: tuple[str, ...] = Field(min_length=1)
    metric: str
    corruptions: str = ""
    parts: tuple[tuple[str, str], ...] = Field(min_length=1)
    published: tuple[Selector, ...] = ()


class Paper(BaseModel):
    """The claims of a paper.

    Attributes:
        paper: its name in published.csv.
        source: where it can be read.
        preset: whose selection, seeds, data and way of executing the runs have. The file of one
            is named relative to this file.
        waits_for: method without which nothing of it can be asked, and which is not there yet.
        tables: its tables and figures.
        statements: sentences about several comparisons.
        figures: figure -> the part of a plan's report that draws it, or a sentence that says what
            does.
        not_answerable: numbers that no run can answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    paper: str
    source: str
    preset: str = "paper"
    waits_for: str = ""
    tables: tuple[Table, ...] = ()
    statements: tuple[Statement, ...] = ()
    figures: dict[str, str] = {}
    not_answerable: tuple[NotAnswerable, ...] = ()

    def row(self, name: str) -> Row:
        """Return the row called "PLACE: LABEL".

        Raises:
            UserError: there is none. The nearest ones are listed.
        """
        rows = {
            f"{table.place}: {row.label}": row for table in self.tables for row in table.every_row()
        }
        return rows[choose(name, rows, f"row of {self.paper}")]


def read_papers(also: Path | None = None) -> list[Paper]:
    """Return the papers, in the order of their files.

    Args:
        also: folder with further files [none].

    Raises:
        UserError: a file cannot be read, or a field of it is wrong.
    """
    files = sorted(SHIPPED.glob("*.yaml")) + (sorted(also.glob("*.yaml")) if also else [])
    return [_read(path) for path in files]


def _read(path: Path) -> Paper:
    paper = read_model(Paper, read_yaml(path, "claims", ()), f"claims {path.name}")
    if not paper.preset.endswith((".yaml", ".yml")):
        return paper
    return paper.model_copy(update={"preset": str((path.parent / paper.preset).resolve())})
