"""All claims as one table, from which every format is made."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from reports import published as printed
from reports.claims.answers import Answer, answers, interval
from reports.claims.claims import Claim, Claims, read_claims
from reports.claims.evidence import Evidence, Found
from reports.claims.finished import Finished
from reports.claims.needed import needed
from reports.collected import Run
from reports.layout import numbers

JOINED = "; "  # between texts that have commas


@dataclasses.dataclass(frozen=True)
class Said:
    """What the finished runs of a folder say to claims.

    Attributes:
        claims: all claims that are known.
        table: one row per claim that was asked for.
        damaged: key of a run that cannot be read -> why.
    """

    claims: Claims
    table: pd.DataFrame
    damaged: dict[str, str]


def read_said(
    runs: Path,
    also: Path | None = None,
    read: Sequence[Run] = (),
    choose: Callable[[Claim], bool] = lambda claim: True,
) -> Said:
    """Return claims, and what the finished runs of a folder say to them.

    Args:
        runs: folder of the run directories. A claim takes them whatever plan they are of.
        also: folder with claims of further papers [none].
        read: finished runs of the folder that are read already.
        choose: whether a claim is asked for.

    Raises:
        UserError: a file of claims is damaged.
    """
    known = read_claims(also)
    finished = Finished(runs, known.claims, read)
    evidence = Evidence(runs, finished)
    shown = [claim.id for claim in known.claims if choose(claim)]
    said = table(answers(known.claims, evidence, shown), evidence)
    return Said(known, said, finished.damaged)


def table(said: Sequence[Answer], evidence: Evidence) -> pd.DataFrame:
    """Return one row per claim.

    `ours`, `low` and `high` are a difference or a value with its interval, fractions. `seeds` says
    which seeds it is over. `hours` are those of the runs that are not done, on one card.

    Args:
        said: what the runs say to the claims.
        evidence: the runs.
    """
    return pd.DataFrame([_row(answer, evidence) for answer in said], columns=[*COLUMNS])


def _row(answer: Answer, evidence: Evidence) -> dict[str, object]:
    claim, found = answer.claim, answer.found
    lacking = needed([claim], evidence)
    ours = low = high = math.nan
    seeds: tuple[int, ...] = ()
    if found:
        ours, seeds = found.difference.value, tuple(found.difference.per_seed)
        low, high = interval(found) if claim.kind == "value" else found.difference.interval
    beside = [f"{split}: {_beside(claim.metric, its)}" for split, its in answer.beside]
    elsewhere = [f"{its.where}: {shown(claim.metric, its.found)}" for its in answer.elsewhere]
    return {
        "id": claim.id,
        "paper": claim.paper,
        "place": claim.places[0],
        "also_in": JOINED.join(claim.places[1:]),
        "kind": claim.kind,
        "claim": claim.text,
        "dataset": claim.dataset,
        "split": ", ".join(claim.splits),
        "metric": claim.metric,
        "published": claim.printed,
        "ours": ours,
        "low": low,
        "high": high,
        "seeds": seeds,
        "p_holm": answer.p,
        "status": answer.status,
        "says": answer.qualified,
        "parts": answer.parts,
        "why": answer.why,
        "beside": JOINED.join(beside),
        "elsewhere": JOINED.join(elsewhere),
        "command": f"risbench claims run {claim.id}" if needs_work(answer) else "",
        "runs_to_do": lacking.runs,
        "hours": math.nan if lacking.hours is None else lacking.hours,
        "hours_from": lacking.source,
        "runs": found.runs if found else (),
    }


COLUMNS = (
    "id",
    "paper",
    "place",
    "also_in",
    "kind",
    "claim",
    "dataset",
    "split",
    "metric",
    "published",
    "ours",
    "low",
    "high",
    "seeds",
    "p_holm",
    "status",
    "says",
    "parts",
    "why",
    "beside",
    "elsewhere",
    "command",
    "runs_to_do",
    "hours",
    "hours_from",
    "runs",
)


def needs_work(answer: Answer) -> bool:
    """Return whether running something would tell more."""
    return answer.status in ("not run", "undecided")


def _beside(heading: str, found: Sequence[Found]) -> str:
    """Return the comparisons of a claim on one test split: the difference, or how many point up."""
    if len(found) == 1:
        return shown(heading, found[0])
    better = sum(its.difference.value > 0 for its in found)
    least = min(found, key=lambda its: its.difference.value)
    return f"{better} of {len(found)} parts point that way, the least {shown(heading, least)}"


def shown(heading: str, found: Found) -> str:
    """Return a difference with its interval and the number of its seed pairs."""
    times = numbers.factor(printed.metric_names()[heading])
    difference = found.difference
    pairs = len(difference.per_seed)
    compared = "1 pair" if pairs == 1 else f"{pairs} pairs"
    text = numbers.difference(difference.value, *difference.interval, times)
    return f"{text} ({compared})"
