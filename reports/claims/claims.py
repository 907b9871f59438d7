"""From the files of papers and published.csv to single claims, each with its runs."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from benchmark.base.errors import UserError, choose
from benchmark.data import datasets
from benchmark.evaluation import metrics
from benchmark.evaluation.published_scores import SCORES
from benchmark.planning.preset_check import check_defined
from benchmark.robustness import corruptions
from reports import published as printed
from reports.claims.arm import Arm, arm
from reports.claims.paper import Paper, Row, Selector, Statement, Table, read_papers

Kind = Literal["sign", "all of", "value"]


@dataclasses.dataclass(frozen=True)
class Part:
    """One comparison: an arm that is said to be better than another one.

    Attributes:
        better: the arm that is said to be better.
        than: the other.
        split: as their runs report it.
        metric: name.
        corruption: under which it is asked, as the mean over all severities, or "" for none.
    """

    better: Arm
    than: Arm
    split: str
    metric: str
    corruption: str = ""


@dataclasses.dataclass(frozen=True)
class Value:
    """One number that an arm is said to have.

    Attributes:
        arm: the arm.
        split: as its runs report it.
        metric: name.
        value: a fraction, or in the metric's own unit.
    """

    arm: Arm
    split: str
    metric: str
    value: float


@dataclasses.dataclass(frozen=True)
class Claim:
    """Something that a paper says and runs can answer.

    Attributes:
        id: names it in commands.
        kind: how it is answered.
        paper: that says it.
        places: its tables, figures or sections that say it.
        text: the claim as a sentence.
        dataset: of the splits, as NAME:SPLIT_BY.
        splits: as the data set calls them.
        metric: heading of its metric.
        on_val: what must be said of its split where it is no test split, else "".
        printed: the published numbers as text, or "".
        rows: of published.csv, by number.
        preset: by which its runs are made.
        family: of a sign, the claims that Holm's adjustment counts together.
        parts: comparisons of a sign (one) or statement (several), each on each split.
        value: of a value.
        quoted: whether the paper repeats a number of another one.
    """

    id: str
    kind: Kind
    paper: str
    places: tuple[str, ...]
    text: str
    dataset: str
    splits: tuple[str, ...]
    metric: str
    on_val: str
    printed: str
    rows: tuple[int, ...]
    preset: str
    family: str = ""
    parts: tuple[Part, ...] = ()
    value: Value | None = None
    quoted: bool = False

    @property
    def arms(self) -> list[Arm]:
        """The runs that answer it, each once."""
        return list({its.identity: its for its, _ in self.asked}.values())

    @property
    def asked(self) -> list[tuple[Arm, str]]:
        """Each run that answers it, with the split that it is asked on."""
        every = [(its, part.split) for part in self.parts for its in (part.better, part.than)]
        if self.value:
            every.append((self.value.arm, self.value.split))
        return list({(its.identity, split): (its, split) for its, split in every}.values())

    @property
    def every_arm(self) -> list[Arm]:
        """The runs that answer it, and those that make the targets for them."""
        makers = {its.targets.identity: its.targets for its in self.arms if its.targets}
        return [*self.arms, *makers.values()]


@dataclasses.dataclass(frozen=True)
class Claims:
    """All claims, and the published numbers that stand in none.

    Attributes:
        claims: in the order of the papers' files and tables.
        published: the rows of published.csv.
        not_answerable: number of a row -> why no run can answer it.
        no_value: number of a row whose value cannot be compared with ours -> why. A sign may hold
            it all the same.
        waiting: number of a row -> the method that it waits for.
    """

    claims: tuple[Claim, ...]
    published: pd.DataFrame
    not_answerable: dict[int, str]
    no_value: dict[int, str]
    waiting: dict[int, str]


def read_claims(also: Path | None = None) -> Claims:
    """Return all claims.

    Args:
        also: folder with claims of further papers and a published.csv of their numbers [none].

    Raises:
        UserError: a file is damaged, a claim matches no published number or no known run, or two
            claims have one id.
    """
    known = printed.read()
    if also:
        known = pd.concat([known, printed.read(also / printed.FILE.name)], ignore_index=True)
    claims: list[Claim] = []
    not_answerable: dict[int, str] = {}
    no_value: dict[int, str] = {}
    waiting: dict[int, str] = {}
    for paper in read_papers(also):
        own = known[known["paper"] == paper.paper]
        if own.empty:
            raise UserError(f"claims of {paper.paper}: published.csv has no number of this paper.")
        if paper.waits_for:
            waiting |= dict.fromkeys(own.index, paper.waits_for)
            continue
        for entry in paper.not_answerable:
            rows = _selected(own, entry, f"claims of {paper.paper}, not_answerable")
            not_answerable |= dict.fromkeys(rows.index, entry.reason)
        own = own.drop(index=[*not_answerable], errors="ignore")
        claims += _of_paper(paper, own)
        for table in paper.tables:
            for row in table.every_row():
                if row.no_value:
                    rows = lines_of(own, row, table, f"claims of {paper.paper}")
                    no_value |= dict.fromkeys(rows.index, row.no_value)
    return Claims(tuple(_merged(claims)), known, not_answerable, no_value, waiting)


def _selected(own: pd.DataFrame, selector: Selector, where: str) -> pd.DataFrame:
    """Return the published numbers that fit, at least one."""
    rows = own
    for column, value in selector.model_dump(exclude={"note", "reason"}).items():
        if value is not None:
            choose(value, {*rows[column]}, f"{where}: {column}")
            rows = rows[rows[column] == value]
    rows = rows[rows["note"].str.startswith(selector.note)]
    if rows.empty:
        raise UserError(f"{where}: published.csv has no number whose note begins so.")
    return rows


# --- one paper ------------------------------------------------------------------------------------


def _of_paper(paper: Paper, own: pd.DataFrame) -> Iterator[Claim]:
    for table in paper.tables:
        yield from _of_table(paper, table, own)
    for statement in paper.statements:
        yield _of_statement(paper, statement, own)


def _of_table(paper: Paper, table: Table, own: pd.DataFrame) -> Iterator[Claim]:
    rows = {row.label: row for row in table.every_row()}
    lines = {
        label: lines_of(own, row, table, f"claims of {paper.paper}, {table.place}, row '{label}'")
        for label, row in rows.items()
    }
    for label, row in rows.items():
        for number, line in lines[label].iterrows():
            if row.against:
                before = lines[row.against]
                for column in ("dataset", "split", "metric"):
                    before = before[before[column] == line[column]]
                for other, partner in before.iterrows():
                    pair = {number: line, other: partner}
                    yield from _sign(paper, table, row, rows[row.against], pair)
            if not row.no_value:
                yield _value(paper, table, row, number, line)


def lines_of(own: pd.DataFrame, row: Row, table: Table, where: str) -> pd.DataFrame:
    """Return the published numbers of a row, which is none for a row that statements name alone."""
    return _selected(own, row.selector(table.place), where) if row.system else own.iloc[:0]


def _sign(
    paper: Paper, table: Table, row: Row, against: Row, pair: dict[int, pd.Series]
) -> Iterator[Claim]:
    """Yield the claim that the better one of two published numbers makes, if they differ."""
    (first, line), (second, partner) = pair.items()
    if line["value"] == partner["value"]:
        return
    rises = metrics.get(_metric(line)).higher_is_better == (line["value"] > partner["value"])
    better, than = (row, against) if rises else (against, row)
    claim = _claim(
        paper,
        table,
        row,
        line,
        kind="sign",
        text=f"{better.label} is better than {than.label}.",
        printed=f"{partner['value']:.2f} → {line['value']:.2f}",
        rows=(int(second), int(first)),
        parts=(_part(paper, better, than, _where(line), line["split"], _metric(line)),),
    )
    family = f"{paper.paper} {table.place}{', val' if claim.on_val else ''}"
    yield dataclasses.replace(claim, family=family)


def _value(paper: Paper, table: Table, row: Row, number: int, line: pd.Series) -> Claim:
    metric = _metric(line)
    if row.protocol:
        scores = SCORES[choose(row.protocol, SCORES, "published protocol")]
        choose(metric, [score.name for score in scores], f"number of the protocol {row.protocol}")
    its = _arm(paper, row, _where(line))
    value = float(line["value"]) / metrics.get(metric).factor
    claim = _claim(
        paper,
        table,
        row,
        line,
        kind="value",
        text=f"{row.label} has {line['value']:.2f}.",
        printed=f"{line['value']:.2f}",
        rows=(int(number),),
        value=Value(its, its.split(_where(line), line["split"]), metric, value),
        quoted=row.quoted,
    )
    return dataclasses.replace(claim, id=f"{claim.id}-value")


def _claim(paper: Paper, table: Table, row: Row, line: pd.Series, **own: Any) -> Claim:
    """Return the claim of a published number, with what signs and values have in common.

    Args:
        paper: that says it.
        table: that has the number.
        row: of the table.
        line: of published.csv.
        own: the other fields of the claim.
    """
    return Claim(
        id=claim_id(paper, table, row, line),
        paper=paper.paper,
        places=(table.place,),
        dataset=":".join(_where(line)),
        splits=(line["split"],),
        metric=line["metric"],
        on_val=_on_val(row, line),
        preset=paper.preset,
        **own,
    )


def _of_statement(paper: Paper, statement: Statement, own: pd.DataFrame) -> Claim:
    where = f"claims of {paper.paper}, statement {statement.id}"
    dataset = printed.dataset(statement.dataset)
    names = printed.metric_names()
    metric = _defined(names[choose(statement.metric, names, f"{where}: metric")], dataset, where)
    named = (statement.corruptions,) if statement.corruptions else ()
    under = corruptions.resolve(named) or [""]
    parts = [
        _part(paper, paper.row(better), paper.row(than), dataset, split, metric, corruption)
        for better, than in statement.parts
        for split in statement.splits
        for corruption in under
    ]
    selected = [_selected(own, selector, where) for selector in statement.published]
    rows = pd.concat(selected) if selected else own.iloc[:0]
    tests = datasets.get(dataset[0]).tests[dataset[1]]
    on_val = "" if {*statement.splits} <= {*tests} else ON_VAL
    return Claim(
        id=f"{_slug(paper.paper)}-{_slug(statement.id)}",
        kind="all of",
        paper=paper.paper,
        places=(statement.place,),
        text=statement.text,
        dataset=":".join(dataset),
        splits=statement.splits,
        metric=statement.metric,
        on_val=on_val,
        printed=", ".join(f"{line.condition}: {line.value:+.2f}" for line in rows.itertuples()),
        rows=tuple(map(int, rows.index)),
        parts=tuple(parts),
        preset=paper.preset,
    )


ON_VAL = "on val, which chose the epoch"
NO_TEST = "on val, which is no test split"


def _part(
    paper: Paper,
    better: Row,
    than: Row,
    dataset: tuple[str, str],
    split: str,
    metric: str,
    corruption: str = "",
) -> Part:
    arms = [_arm(paper, row, dataset) for row in (better, than)]
    return Part(*arms, arms[0].split(dataset, split), metric, corruption)


def _arm(paper: Paper, row: Row, dataset: tuple[str, str]) -> Arm:
    """Return the run behind a row, for a number on a data set."""
    try:
        trained_on = datasets.parse(row.trained_on) if row.trained_on else dataset
        return arm(row, trained_on, paper.preset)
    except UserError as error:
        raise UserError(f"claims of {paper.paper}, row '{row.label}': {error}") from None


def _on_val(row: Row, line: pd.Series) -> str:
    name, split_by = _where(line)
    if line["split"] in datasets.get(name).tests[split_by]:
        return ""
    trained_on = datasets.parse(row.trained_on) if row.trained_on else (name, split_by)
    chooses = datasets.get(trained_on[0]).selects_on or trained_on
    return ON_VAL if chooses == (name, split_by) else NO_TEST


def _where(line: pd.Series) -> tuple[str, str]:
    return printed.dataset(line["dataset"])


def _metric(line: pd.Series) -> str:
    names = printed.metric_names()
    where = f"metric of {line['place']} in published.csv"
    return _defined(names[choose(line["metric"], names, where)], _where(line), where)


def _defined(metric: str, dataset: tuple[str, str], where: str) -> str:
    """Return a metric if it is defined on a data set.

    Raises:
        UserError: it is not. The message begins with `where`.
    """
    try:
        check_defined([metric], [":".join(dataset)])
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return metric


def claim_id(paper: Paper, table: Table, row: Row, line: pd.Series) -> str:
    """Return the id of the claim that a published number makes.

    The claim about its value has the same id with `-value` after it.
    """
    parts = (paper.paper, table.id or table.place, row.label)
    parts += (line["dataset"], line["split"], line["metric"])
    return "-".join(map(_slug, parts))


def _slug(text: str) -> str:
    """Return a text in small letters, digits and hyphens. The plus of a name is kept as a word."""
    text = re.sub(r"(?<=\w)\+(?!\w)", "plus", text.lower())
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def _merged(claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims with one for each value of a run, wherever it is printed.

    It is that of the paper which measured it, if this paper is there.

    Raises:
        UserError: two claims have one id.
    """
    kept: dict[str, Claim] = {}
    values: dict[object, str] = {}
    for claim in sorted(claims, key=lambda claim: claim.quoted):
        its = claim.value
        key = (its.arm.identity, its.split, its.metric, its.value) if its else claim.id
        before = kept.get(values.setdefault(key, claim.id))
        if before and its:
            places = tuple(dict.fromkeys((*before.places, *claim.places)))
            rows = (*before.rows, *claim.rows)
            claim = dataclasses.replace(before, places=places, rows=rows)
        elif claim.id in kept:
            raise UserError(f"two claims have the id {claim.id}: give their rows other labels.")
        kept[claim.id] = claim
    return [*kept.values()]
