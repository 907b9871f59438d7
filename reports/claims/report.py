"""Shows what runs say to claims: in the terminal, as Markdown, CSV and JSON."""

import json
import re

import pandas as pd
from rich.console import Console

from reports import published as printed
from reports.claims.answers import BAND, STATUSES
from reports.claims.claims import Claims
from reports.claims.table import JOINED, Said
from reports.layout import files, markdown, numbers, terminal
from reports.layout.block import Block
from reports.layout.numbers import NOTHING

DEFINITIONS = (
    "A sign is the claim that one run is better than another. It is judged on the seeds and images"
    " of our runs, after Holm over the published pairs of its table.",
    "A statement is about several comparisons. It is confirmed where each of them is, and"
    " contradicted where one is after Holm over its parts.",
    f"A value is confirmed where the interval of ours lies within {BAND:.1f} points of it, and"
    " contradicted where it lies outside. It is measured as its paper measured it.",
    "A claim about val is judged alike and says so, since val chose the epoch.",
    "Runs with other data, networks or recipes answer no claim. They are shown as the same"
    " comparison elsewhere.",
    "Hours are of training on one card, for the seeds that are not done. `risbench claims run ID`"
    " trains and measures what a claim lacks.",
)


def as_markdown(said: Said) -> str:
    """Return the claims as Markdown that also reads well as plain text."""
    return markdown.document(
        [
            "# Claims",
            counts(said.table),
            *map(markdown.table, blocks(said.table, texts=True)),
            "## The same comparison elsewhere",
            *map(markdown.table, elsewhere(said.table)),
            "## What the words mean",
            markdown.bullets([*DEFINITIONS, *left_out(said.claims), *damaged(said)]),
        ]
    )


def as_csv(table: pd.DataFrame) -> str:
    """Return the claims as CSV, with fractions."""
    return files.csv(table)


def as_json(table: pd.DataFrame) -> str:
    """Return the claims as a JSON list of objects. A number that is not there is null."""
    rows = [
        {
            name: None if isinstance(value, float) and value != value else value
            for name, value in row.items()
        }
        for row in table.to_dict("records")
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def render(console: Console, said: Said, width: int) -> None:
    """Print the claims, `width` columns wide."""
    table = said.table
    shown = [*blocks(table, texts=False), *elsewhere(table)]
    notes = [*damaged(said), counts(table)]
    if (table["command"] != "").any():
        notes.append("`risbench claims run ID` trains and measures what a claim lacks.")
    terminal.print_blocks(console, shown, notes, width)


def damaged(said: Said) -> list[str]:
    """Return which runs are left out because they cannot be read, and why."""
    return [f"Run {key} is left out: {why}" for key, why in sorted(said.damaged.items())]


def counts(table: pd.DataFrame) -> str:
    """Return how many claims have which status, as a sentence."""
    if table.empty:
        return "No claim fits."
    number = table["status"].value_counts()
    shown = [f"{number[status]} {status}" for status in STATUSES if status in number]
    return f"{len(table)} claims: {', '.join(shown)}."


def left_out(claims: Claims) -> list[str]:
    """Return what becomes of the published numbers that stand in no claim."""
    lines = []
    for reasons, can in (
        (claims.not_answerable, "No run can answer"),
        (claims.no_value, "No run can confirm the value of"),
    ):
        every = pd.Series(reasons, dtype=object)
        for reason, rows in every.groupby(every, sort=False):
            places = claims.published.loc[rows.index, ["paper", "place"]].drop_duplicates()
            where = ", ".join(f"{its.paper} {its.place}" for its in places.itertuples())
            lines.append(f"{can} {_numbers(len(rows))} of {where}: {reason}")
    waiting = pd.Series(claims.waiting, dtype=object)
    for method, rows in waiting.groupby(waiting, sort=False):
        papers = ", ".join(dict.fromkeys(claims.published.loc[rows.index, "paper"]))
        lines.append(f"{_numbers(len(rows))} of {papers} wait for the method {method}.")
    return lines


def _numbers(count: int) -> str:
    return "1 number" if count == 1 else f"{count} numbers"


# --- blocks ---------------------------------------------------------------------------------------


def blocks(table: pd.DataFrame, texts: bool) -> list[Block]:
    """Return a block for the claims of every table of a paper, and one for its statements.

    Args:
        table: what `table.table` returns.
        texts: whether each line says its claim, for which a terminal is too narrow.
    """
    title = table["paper"] + ", " + table["place"].mask(table["kind"] == "all of", "statements")
    return [_block(name, rows, texts) for name, rows in table.groupby(title, sort=False)]


def _block(title: str, rows: pd.DataFrame, texts: bool) -> Block:
    statements = (rows["kind"] == "all of").all()
    columns = {"claim": rows["id"]}
    if texts or statements:
        columns["it says"] = rows["claim"]
    if texts:
        where = rows["dataset"] + " " + rows["split"] + ", " + rows["metric"]
        places = rows["place"] + rows["also_in"].map(lambda text: text and f"{JOINED}{text}")
        columns |= {"place": places, "on": where}
    words = len(columns)
    each = [*rows.itertuples()]
    if not statements or texts:
        columns["published"] = [row.published or NOTHING for row in each]
    columns["ours [95 %]"] = [_ours(row) for row in each]
    if not statements:
        columns["p"] = [numbers.p_value(row.p_holm) for row in each]
    columns["status"] = rows["says"]
    if texts:
        columns["why, and beside"] = [_more(row) or NOTHING for row in each]
    columns["hours"] = [_hours(row) for row in each]
    lines = [*zip(*columns.values(), strict=True)]
    note = "" if texts else "\n".join(f"{row.id}: {text}" for row in each if (text := _more(row)))
    return Block(title, note, tuple(columns), lines, names=words, repeated=1)


def _more(row: object) -> str:
    """Return what would decide a claim or is missing, and the same on the test splits."""
    beside = f"on test splits, {row.beside}" if row.beside else ""
    return ". ".join(filter(None, [row.why, beside]))


def _ours(row: object) -> str:
    if row.kind == "all of":
        return row.parts or NOTHING
    if row.ours != row.ours:
        return NOTHING
    times = numbers.factor(printed.metric_names()[row.metric])
    if row.kind == "sign":
        return numbers.difference(row.ours, row.low, row.high, times)
    return f"{numbers.number(row.ours, times)} {numbers.between(row.low, row.high, times)}".rstrip()


def _hours(row: object) -> str:
    if not row.runs_to_do:
        return NOTHING
    return "not known" if row.hours != row.hours else f"{row.hours:.0f}"


def elsewhere(table: pd.DataFrame) -> list[Block]:
    """Return a block of the same comparisons with other data or networks, or nothing."""
    lines = [
        (row.id, *re.fullmatch(r"(.*): (.*) \((\d+) pairs?\)", text).groups())
        for row in table.itertuples()
        for text in filter(None, row.elsewhere.split(JOINED))
    ]
    if not lines:
        return []
    note = "These answer no claim, since their data, networks or recipes are not the paper's."
    header = ("claim", "where", "difference [95 %]", "pairs")
    return [Block("The same comparison elsewhere", note, header, lines, names=2, repeated=1)]
