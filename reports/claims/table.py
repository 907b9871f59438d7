"""All claims as one table, from which every format is made."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmark.evaluation import metrics
from reports.claims.answers import Answer, answers, interval
from reports.claims.claims import Claims, read_claims
from reports.claims.evidence import Evidence, Found
from reports.claims.needed import needed
from reports.collected import Run
from reports.layout import numbers

JOINED = "; "  # between the places of a claim, some of whose names have a comma


def read_table(
    runs: Path, also: Path | None = None, read: Sequence[Run] = ()
) -> tuple[Claims, pd.DataFrame]:
    """Return all claims, and what the finished runs of a folder say to them.

    Args:
        runs: folder of the run directories. A claim takes them whatever plan they are of.
        also: folder with claims of further papers [none].
        read: finished runs of the folder that are read already.

    Raises:
        UserError: a file of claims or a run is damaged.
    """
    known = read_claims(also)
    evidence = Evidence(runs, known.claims, read)
    return known, table(answers(known.claims, evidence), evidence)


def table(said: Sequence[Answer], evidence: Evidence) -> pd.DataFrame:
    """Return one row per claim.

    `ours`, `low` and `high` are a difference or a value with its interval, fractions. `seeds` says
    which seeds it is over. `hours` are those of the runs that are not done, on one card.

    Args:
        said: what the runs say to the claims.
        evidence: the runs.
    """
    return pd.DataFrame([_row(answer, evidence) for answer in said])


def _row(answer: Answer, evidence: Evidence) -> dict[str, object]:
    claim, found = answer.claim, answer.found
    lacking = needed(claim, evidence)
    ours = low = high = math.nan
    seeds: tuple[int, ...] = ()
    if found:
        ours, seeds = found.difference.value, tuple(found.difference.per_seed)
        low, high = interval(found) if claim.kind == "value" else found.difference.interval
    return {
        "id": claim.id,
        "paper": claim.paper,
        "place": JOINED.join(claim.places),
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
        "beside": JOINED.join(
            f"{split}: {shown(claim.metric, its)}" for split, its in answer.beside
        ),
        "elsewhere": JOINED.join(
            f"{its.where}: {shown(claim.metric, its.found)}" for its in answer.elsewhere
        ),
        "command": f"risbench claims run {claim.id}" if needs_work(answer) else "",
        "runs_to_do": lacking.runs,
        "hours": math.nan if lacking.hours is None else lacking.hours,
        "hours_from": lacking.source,
        "runs": found.runs if found else (),
    }


def needs_work(answer: Answer) -> bool:
    """Return whether running something would tell more."""
    return answer.status in ("not run", "undecided")


def shown(heading: str, found: Found) -> str:
    """Return a difference with its interval and the number of its seed pairs."""
    names = {metrics.get(name).heading: name for name in metrics.names()}
    times = numbers.factor(names[heading])
    difference = found.difference
    pairs = len(difference.per_seed)
    compared = "1 pair" if pairs == 1 else f"{pairs} pairs"
    text = numbers.difference(difference.value, *difference.interval, times)
    return f"{text} ({compared})"
