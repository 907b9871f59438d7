"""Shows what runs say to claims: in the terminal, as Markdown, CSV and JSON."""

import math
from collections import Counter
from collections.abc import Sequence

import pandas as pd
from rich.console import Console

from reports import published as printed
from reports.claims.answers import BAND, STATUSES, Answer
from reports.claims.claims import Claims
from reports.claims.table import JOINED, Answered, Line, difference
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


def as_markdown(its: Answered) -> str:
    """Return the claims as Markdown that also reads well as plain text."""
    return markdown.document(
        [
            "# Claims",
            counts(its),
            *map(markdown.table, blocks(its.lines, texts=True)),
            "## The same comparison elsewhere",
            *map(markdown.table, elsewhere(its.answers)),
            "## What the words mean",
            markdown.bullets([*DEFINITIONS, *left_out(its.claims), *damaged(its)]),
        ]
    )


def contents(its: Answered) -> dict[str, str]:
    """Return `claims.md` and `claims.csv`."""
    return {"claims.md": as_markdown(its), "claims.csv": files.csv(its.table)}


def as_json(its: Answered) -> str:
    """Return the claims as a JSON list of objects. A number that is not there is null."""
    return its.table.to_json(orient="records", indent=1, force_ascii=False) + "\n"


def render(console: Console, its: Answered, width: int) -> None:
    """Print the claims, `width` columns wide."""
    shown = [*blocks(its.lines, texts=False), *elsewhere(its.answers)]
    notes = [*damaged(its), counts(its)]
    if any(line.command for line in its.lines):
        notes.append("`risbench claims run ID` trains and measures what a claim lacks.")
    terminal.print_blocks(console, shown, notes, width)


def damaged(its: Answered) -> list[str]:
    """Return which runs are left out because they cannot be read, and why."""
    return [f"Run {key} is left out: {why}" for key, why in sorted(its.damaged.items())]


def counts(its: Answered) -> str:
    """Return how many claims have which status, as a sentence."""
    number = Counter(line.status for line in its.lines)
    shown = [f"{number[status]} {status}" for status in STATUSES if number[status]]
    return f"{len(its.lines)} claims: {', '.join(shown)}." if shown else "No claim fits."


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


def blocks(lines: Sequence[Line], texts: bool) -> list[Block]:
    """Return a block for the claims of every table of a paper, and one for its statements.

    Args:
        lines: of the claims.
        texts: whether each line says its claim, for which a terminal is too narrow.
    """
    by_title: dict[str, list[Line]] = {}
    for line in lines:
        place = "statements" if line.kind == "all of" else line.place
        by_title.setdefault(f"{line.paper}, {place}", []).append(line)
    return [_block(title, rows, texts) for title, rows in by_title.items()]


def _block(title: str, rows: Sequence[Line], texts: bool) -> Block:
    statements = all(row.kind == "all of" for row in rows)
    columns = {"claim": [row.id for row in rows]}
    if texts or statements:
        columns["it says"] = [row.claim for row in rows]
    if texts:
        places = [JOINED.join(filter(None, [row.place, row.also_in])) for row in rows]
        where = [f"{row.dataset} {row.split}, {row.metric}" for row in rows]
        columns |= {"place": places, "on": where}
    words = len(columns)
    if not statements or texts:
        columns["published"] = [row.published or NOTHING for row in rows]
    columns["ours [95 %]"] = [_ours(row) for row in rows]
    if not statements:
        columns["p"] = [numbers.p_value(row.p_holm) for row in rows]
    columns["status"] = [row.says for row in rows]
    if texts:
        columns["why, and beside"] = [_more(row) or NOTHING for row in rows]
    columns["hours"] = [_hours(row) for row in rows]
    lines = [*zip(*columns.values(), strict=True)]
    note = "" if texts else "\n".join(f"{row.id}: {text}" for row in rows if (text := _more(row)))
    return Block(title, note, tuple(columns), lines, names=words, repeated=1)


def _more(row: Line) -> str:
    """Return what would decide a claim or is missing, and the same on the test splits."""
    beside = f"on test splits, {row.beside}" if row.beside else ""
    return ". ".join(filter(None, [row.why, beside]))


def _ours(row: Line) -> str:
    if row.kind == "all of":
        return row.parts or NOTHING
    if math.isnan(row.ours):
        return NOTHING
    times = numbers.factor(printed.metric_names()[row.metric])
    if row.kind == "sign":
        return numbers.difference(row.ours, row.low, row.high, times)
    return f"{numbers.number(row.ours, times)} {numbers.between(row.low, row.high, times)}".rstrip()


def _hours(row: Line) -> str:
    if not row.runs_to_do:
        return NOTHING
    return "not known" if math.isnan(row.hours) else f"{row.hours:.0f}"


def elsewhere(answers: Sequence[Answer]) -> list[Block]:
    """Return a block of the same comparisons with other data or networks, or nothing."""
    lines = [
        (
            answer.claim.id,
            its.where,
            difference(answer.claim.metric, its.found),
            str(len(its.found.mean.per_seed)),
        )
        for answer in answers
        for its in answer.elsewhere
    ]
    if not lines:
        return []
    note = "These answer no claim, since their data, networks or recipes are not the paper's."
    header = ("claim", "where", "difference [95 %]", "pairs")
    return [Block("The same comparison elsewhere", note, header, lines, names=2, repeated=1)]
