"""All claims as one table, from which every format is made."""

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pandas as pd

from reports import published as printed
from reports.claims.answers import Answer, answers, interval
from reports.claims.claims import Claim, Claims
from reports.claims.evidence import Evidence, Found
from reports.claims.finished import FinishedRuns
from reports.claims.needed import needed
from reports.collected import Run
from reports.layout import numbers

JOINED = "; "  # between texts that have commas


@dataclasses.dataclass(frozen=True)
class Line:
    """A claim and what runs say to it, as every format shows it.

    Attributes:
        id: of the claim.
        paper: that says it.
        place: its table, figure or section.
        also_in: other places that print it.
        kind: `sign`, `all of` or `value`.
        claim: as a sentence.
        dataset: of the splits, as NAME:SPLIT_BY.
        split: on which it is asked.
        metric: heading of its metric.
        published: the paper's numbers.
        ours: a difference (of a sign) or a value, a fraction. NaN where there is none.
        low: lower end of its interval.
        high: upper end of its interval.
        seeds: which it is over.
        p_holm: p-value after Holm, or NaN.
        status: the plain word.
        says: the status with what must be said with it.
        parts: of a statement, how many are confirmed.
        why: what would decide it, or what is missing.
        beside: the same comparisons on the test splits, for a claim about val.
        elsewhere: the same comparison with other data, networks or recipes.
        command: that would tell more, or "".
        runs_to_do: number of runs that are not done.
        hours: their training on one card, or NaN where nothing says how long a run takes.
        hours_from: what says it.
        runs: keys of the runs that answer it.
    """

    id: str
    paper: str
    place: str
    also_in: str
    kind: str
    claim: str
    dataset: str
    split: str
    metric: str
    published: str
    ours: float
    low: float
    high: float
    seeds: tuple[int, ...]
    p_holm: float
    status: str
    says: str
    parts: str
    why: str
    beside: str
    elsewhere: str
    command: str
    runs_to_do: int
    hours: float
    hours_from: str
    runs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Answered:
    """What the finished runs of a folder say to claims.

    Attributes:
        claims: all claims that are known.
        answers: to the claims that were asked for.
        lines: of the answers, in their order.
        damaged: key of a run that cannot be read -> why.
    """

    claims: Claims
    answers: tuple[Answer, ...]
    lines: tuple[Line, ...]
    damaged: dict[str, str]

    @property
    def table(self) -> pd.DataFrame:
        """The lines as a table, one row per claim."""
        names = [field.name for field in dataclasses.fields(Line)]
        return pd.DataFrame([*self.lines], columns=names)

    def with_status(self, statuses: Collection[str]) -> "Answered":
        """Return the answers that have one of some statuses."""
        kept = [
            pair
            for pair in zip(self.answers, self.lines, strict=True)
            if pair[0].status in statuses
        ]
        found, lines = zip(*kept, strict=True) if kept else ((), ())
        return dataclasses.replace(self, answers=tuple(found), lines=tuple(lines))


def answered(
    known: Claims,
    runs: Path,
    read: Sequence[Run] = (),
    choose: Callable[[Claim], bool] = lambda claim: True,
) -> Answered:
    """Return what the finished runs of a folder say to claims.

    Args:
        known: all claims.
        runs: folder of the run directories. A claim takes them whatever plan they are of.
        read: finished runs of the folder that are read already.
        choose: whether a claim is asked for.
    """
    finished = FinishedRuns(runs, known.claims, read)
    evidence = Evidence(runs, finished)
    shown = [claim.id for claim in known.claims if choose(claim)]
    found = tuple(answers(known.claims, evidence, shown))
    lines = tuple(_line(answer, evidence) for answer in found)
    return Answered(known, found, lines, finished.damaged)


def _line(answer: Answer, evidence: Evidence) -> Line:
    claim, found = answer.claim, answer.found
    lacking = needed([claim], evidence)
    ours = low = high = math.nan
    seeds: tuple[int, ...] = ()
    if found:
        ours, seeds = found.mean.value, tuple(found.mean.per_seed)
        low, high = interval(found) if claim.kind == "value" else found.mean.interval
    beside = [f"{split}: {_beside(claim.metric, its)}" for split, its in answer.beside]
    elsewhere = [f"{its.where}: {shown(claim.metric, its.found)}" for its in answer.elsewhere]
    return Line(
        id=claim.id,
        paper=claim.paper,
        place=claim.places[0],
        also_in=JOINED.join(claim.places[1:]),
        kind=claim.kind,
        claim=claim.text,
        dataset=claim.dataset,
        split=", ".join(claim.splits),
        metric=claim.metric,
        published=claim.printed,
        ours=ours,
        low=low,
        high=high,
        seeds=seeds,
        p_holm=answer.p,
        status=answer.status,
        says=answer.qualified,
        parts=answer.parts,
        why=answer.why,
        beside=JOINED.join(beside),
        elsewhere=JOINED.join(elsewhere),
        command=f"risbench claims run {claim.id}" if needs_work(answer) else "",
        runs_to_do=lacking.runs,
        hours=math.nan if lacking.hours is None else lacking.hours,
        hours_from=lacking.source,
        runs=found.runs if found else (),
    )


def needs_work(answer: Answer) -> bool:
    """Return whether running something would tell more."""
    return answer.status in ("not run", "undecided")


def _beside(heading: str, found: Sequence[Found]) -> str:
    """Return the comparisons of a claim on one test split: the difference, or how many point up."""
    if len(found) == 1:
        return shown(heading, found[0])
    better = sum(its.mean.value > 0 for its in found)
    least = min(found, key=lambda its: its.mean.value)
    return f"{better} of {len(found)} parts point that way, the least {shown(heading, least)}"


def shown(heading: str, found: Found) -> str:
    """Return a difference with its interval and the number of its seed pairs."""
    pairs = len(found.mean.per_seed)
    compared = "1 pair" if pairs == 1 else f"{pairs} pairs"
    return f"{difference(heading, found)} ({compared})"


def difference(heading: str, found: Found) -> str:
    """Return a difference with its interval, in the unit of the metric with this heading."""
    times = numbers.factor(printed.metric_names()[heading])
    return numbers.difference(found.mean.value, *found.mean.interval, times)
