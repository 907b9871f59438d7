"""Claims on the page: how many have which status, and every claim with what runs say to it."""

import dataclasses
from collections import Counter

from reports.claims import report
from reports.claims.answers import STATUSES
from reports.claims.table import Answered
from reports.layout.block import Block

UNANSWERED = "not run"
# The answer stands beside what is said. What few readers need comes last.
COLUMNS = ("it says", "on", "published", "ours [95 %]", "p", "status", "hours")
COLUMNS += ("why, and beside", "place", "claim")


@dataclasses.dataclass(frozen=True)
class Claims:
    """What the section shows.

    Attributes:
        counts: status -> number of claims, without those that no claim has.
        blocks: the tables of every paper's claims, and whether one of them has an answer.
        elsewhere: the same comparisons with other data or networks.
        definitions: what the words mean.
        waiting: whether no claim has an answer yet.
    """

    counts: dict[str, int]
    blocks: list[tuple[Block, bool]]
    elsewhere: list[Block]
    definitions: list[str]
    waiting: bool


def claims(its: Answered) -> Claims:
    """Return what finished runs say to claims, as the page shows it."""
    number = Counter(line.status for line in its.lines)
    return Claims(
        counts={status: number[status] for status in STATUSES if number[status]},
        blocks=[
            (_arranged(block), _has_answer(block)) for block in report.blocks(its.lines, texts=True)
        ],
        elsewhere=report.elsewhere(its.answers),
        definitions=[*report.DEFINITIONS, *report.left_out(its.claims), *report.damaged(its)],
        waiting={*number} <= {UNANSWERED},
    )


def _arranged(block: Block) -> Block:
    """Return a table with its columns in the order in which the page shows them."""
    columns = [heading for heading in COLUMNS if heading in block.header]
    place = block.header.index("place")
    # The title names a place that all claims share.
    if len({line[place] for line in block.lines}) == 1:
        columns.remove("place")
    places = [block.header.index(heading) for heading in columns]
    return dataclasses.replace(block.part(places), names=2, repeated=1)


def _has_answer(block: Block) -> bool:
    place = block.header.index("status")
    return any(not line[place].startswith(UNANSWERED) for line in block.lines)
