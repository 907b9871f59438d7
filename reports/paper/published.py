"""A paper's own tables: every row that it prints, with the runs that stand behind the row.

Our numbers are measured by the protocol of the paper and come from runs of its data, network and
recipe alone, as claims do. What other runs say stands in `reports.paper.plan`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import pandas as pd

import methods
from reports import published as printed
from reports.claims.answers import Answer, interval
from reports.claims.claims import Claims, claim_id, lines_of
from reports.claims.paper import Paper, Row, Table
from reports.claims.table import Answered
from reports.layout import numbers
from reports.layout.block import Block
from reports.paper.cells import Cell

Where = tuple[str, str, str]
"""Data set and split as published.csv calls them, and heading of the metric."""

NO_METHOD = "no method here"
NOT_MEASURED = "no metric here"
VERDICTS = {"confirmed": "better", "contradicted": "worse"}
OPPOSITE = {"better": "worse", "worse": "better"}


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of a paper's table.

    Attributes:
        label: names it.
        supervision: `full` or `weak`.
        cells: by what they are of.
    """

    label: str
    supervision: str
    cells: dict[Where, Cell]


def blocks(its: Answered, paper: Paper, table: Table, states: Mapping[str, str]) -> list[Block]:
    """Return a table of a paper, in a block for each supervision and metric where they differ.

    Args:
        its: what runs say to the claims.
        paper: the paper.
        table: of the paper.
        states: identity of an arm -> how far its planned run is, for runs that are not finished.
    """
    lines = _lines(its, paper, table, states)
    by_kind: dict[tuple[str, str], list[Line]] = {}
    # Rows with the same metrics share a table. Otherwise each metric has one of its own.
    shared = len({frozenset(where[2] for where in line.cells) for line in lines}) == 1
    for line in lines:
        for metric in dict.fromkeys("" if shared else where[2] for where in line.cells):
            by_kind.setdefault((line.supervision, metric), []).append(line)
    return [
        _block(f"{paper.paper}, {table.place}", supervision, metric, own)
        for (supervision, metric), own in by_kind.items()
    ]


def _block(title: str, supervision: str, metric: str, lines: Sequence[Line]) -> Block:
    columns = list(
        dict.fromkeys(
            where for line in lines for where in line.cells if not metric or where[2] == metric
        )
    )
    sets = {where[0] for where in columns}
    metrics = {where[2] for where in columns}
    header = ["row"]
    for dataset, split, heading in columns:
        name = " ".join(
            filter(
                None, [dataset if len(sets) > 1 else "", split, heading if len(metrics) > 1 else ""]
            )
        )
        header += [name, "paper"]
    rows, bold = [], set()
    for number, line in enumerate(lines):
        row = [line.label]
        for place, where in enumerate(columns):
            cell = line.cells.get(where, Cell(numbers.PERCENT))
            row += [cell.ours, cell.printed]
            if cell.is_bold:
                bold.add((number, 1 + 2 * place))
        rows.append(tuple(row))
    of = [title, *(sets if len(sets) == 1 else []), *(metrics if len(metrics) == 1 else [])]
    weak = ", weakly supervised" if supervision == "weak" else ""
    return Block(", ".join(of) + weak, "", tuple(header), rows, names=1, bold=frozenset(bold))


# --- rows -----------------------------------------------------------------------------------------


def _lines(its: Answered, paper: Paper, table: Table, states: Mapping[str, str]) -> list[Line]:
    """Return the rows of a table in the order in which the paper prints them."""
    known = its.claims.published
    own = known[(known["paper"] == paper.paper) & (known["place"] == table.place)]
    answers = _Answers(its)
    found: list[tuple[float, Line]] = []
    taken: set[int] = set()
    at = -1.0
    for row in table.every_row():
        numbered = lines_of(own, row, table, paper.paper)
        taken |= {*numbered.index}
        # The file's order holds among its rows, of which two may be one row of the paper.
        at = max(at, float(numbered.index[0])) if len(numbered) else at
        weak = methods.definition(row.method).weakly_supervised
        cells = {
            _where(line): _cell(answers, paper, table, row, number, line, states)
            for number, line in numbered.iterrows()
        }
        if cells:
            found.append((at, Line(row.label, "weak" if weak else "full", cells)))
    others = own.drop(index=[*taken])
    for (system, _, note), numbered in others.groupby(["system", "condition", "note"], sort=False):
        cells = {
            _where(line): Cell(numbers.PERCENT, published=line["value"], why=NO_METHOD)
            for _, line in numbered.iterrows()
        }
        combined = note if "combination" in note else ""
        label = f"{system}, combined" if combined else system
        found.append((float(numbered.index[0]), Line(label, "full", cells)))
    return [line for _, line in sorted(found, key=lambda pair: pair[0])]


class _Answers:
    """Answers by what they are about."""

    def __init__(self, its: Answered) -> None:
        self.claims: Claims = its.claims
        self.by_id = {answer.claim.id: answer for answer in its.answers}
        self.values = {
            number: answer
            for answer in its.answers
            if answer.claim.kind == "value"
            for number in answer.claim.rows
        }


def _cell(
    answers: _Answers,
    paper: Paper,
    table: Table,
    row: Row,
    number: int,
    line: pd.Series,
    states: Mapping[str, str],
) -> Cell:
    value = answers.values.get(number)
    sign = answers.by_id.get(claim_id(paper, table, row, line))
    metric = printed.metric_names().get(line["metric"])
    if metric is None:
        return Cell(numbers.PERCENT, published=float(line["value"]), why=NOT_MEASURED)
    cell = Cell(numbers.factor(metric), verdict=_verdict(sign, row), published=float(line["value"]))
    if value is None:
        return dataclasses.replace(cell, why=row.no_value and "not comparable")
    if value.found is None:
        arm = value.claim.value.arm
        return dataclasses.replace(cell, why=states.get(arm.identity) or "not run")
    mean = value.found.mean
    low, high = interval(value.found)
    return dataclasses.replace(
        cell, value=mean.value, half_width=(high - low) / 2, seeds=len(mean.per_seed)
    )


def _verdict(sign: Answer | None, row: Row) -> str:
    """Return the verdict of a row against the row that it is compared with, or ""."""
    if sign is None or sign.found is None:
        return ""
    word = VERDICTS.get(sign.status, sign.status)
    # A sign is confirmed where the paper is right, and the paper may say that the row is worse.
    is_better = sign.claim.parts[0].better.label == row.label
    return word if is_better else OPPOSITE.get(word, word)


def _where(line: pd.Series) -> Where:
    return (line["dataset"], line["split"], line["metric"])
