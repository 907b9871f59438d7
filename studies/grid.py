"""A grid is an ablation of a paper.

Each of its rows is trained with every seed and compared with a reference row.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmark.evaluation import metrics
from studies.base import Study


class Row(BaseModel):
    """One line of a grid.

    Attributes:
        label: what tables call it.
        published: its `condition` in reports/published.csv, or None if the paper does not have it.
        system: its `system` in reports/published.csv, if that is not the grid's.
        strategy: name of its strategy, if that is not the grid's.
        settings: changes to the strategy's settings.
        recipe: changes to the recipe.
        epochs: length of the training relative to the recipe's, greater than 0.
        no_value: why its published numbers cannot be compared with ours, or "" where they can.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    published: str | None = None
    system: str | None = None
    strategy: str = ""
    settings: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    epochs: float = Field(default=1, gt=0)
    no_value: str = ""


class Grid(Study):
    """An ablation. Every row is trained with every seed and compared with the row `reference`.

    Attributes:
        kind: tells a grid from a search in YAML.
        strategy: name of the strategy of rows that name none.
        paper: what reports call the paper.
        variant: of the method, which the paper's numbers are of.
        place: table or figure of the paper, as reports/published.csv names it.
        system: whose numbers in it are meant, as reports/published.csv names it.
        note: what a reader of the table must know.
        rows: at least two.
        reference: label of the row that the others are compared with.
        metrics: names of the metrics that the paper's table shows. The judged one is shown in
            any case.
        curves: whether the training losses are drawn (Fig. B of the paper).
        hours: whether the cost of training is shown.
    """

    kind: Literal["grid"] = "grid"
    strategy: str = ""
    paper: str = "MaskRIS (arXiv 2411.19067)"
    variant: str = "paper"
    place: str
    system: str = ""
    note: str = ""
    rows: tuple[Row, ...] = Field(min_length=2)
    reference: str
    metrics: tuple[str, ...] = ()
    curves: bool = False
    hours: bool = False

    def check(self) -> None:
        """Check that all metrics are known.

        Raises:
            UserError: one is not. The nearest ones are listed.
        """
        for name in self.metrics:
            metrics.get(name)

    @model_validator(mode="after")
    def _labels(self) -> "Grid":
        labels = [row.label for row in self.rows]
        if len(set(labels)) < len(labels) or self.reference not in labels:
            raise ValueError("rows need labels of their own, one of which is the reference")
        if not self.strategy and (nameless := [row.label for row in self.rows if not row.strategy]):
            raise ValueError(f"row '{nameless[0]}' names no strategy, and neither does the grid")
        if nameless := [
            row.label for row in self.rows if row.published and not self.system_of(row)
        ]:
            raise ValueError(f"row '{nameless[0]}' names a published condition and no system")
        return self

    def system_of(self, row: Row) -> str:
        """Return whose published numbers a row is shown beside."""
        return row.system or self.system
