"""What the runs say to each claim: confirmed, contradicted, and what lies between.

- A sign is judged like every comparison of the suite, in the Holm family that its paper's table
  makes, whatever plan its runs are of.
- A statement is confirmed where each of its parts is, which needs no adjustment, and contradicted
  where a part is after Holm over the parts.
- A value is confirmed where the interval of ours lies within `BAND` points of it, and contradicted
  where it lies outside altogether.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from benchmark.data import datasets
from benchmark.evaluation import metrics
from benchmark.evaluation.bootstrap import Interval
from benchmark.evaluation.verdict import LEAST_PAIRS, Verdict, judge
from reports.claims.arm import named_preset
from reports.claims.claims import Claim, Part
from reports.claims.evidence import Elsewhere, Evidence, Found

BAND = 1.0  # points by which a measured value may differ from the published one
POINTS = 100.0  # a margin is in points, differences are fractions
Status = Literal["confirmed", "contradicted", "no relevant difference", "undecided", "not run"]
STATUSES: tuple[Status, ...] = (
    "confirmed",
    "contradicted",
    "no relevant difference",
    "undecided",
    "not run",
)
SAYS: dict[str, Status] = {
    "better": "confirmed",
    "worse": "contradicted",
    "no relevant difference": "no relevant difference",
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What runs say to a claim.

    Attributes:
        claim: the claim.
        status: the plain word. `qualified` adds what must be said with it.
        qualified: the status with the split that it is about, if that is no test split, and with
            the number of checkpoints, if these are too few for seeds to count.
        found: the numbers of a sign or a value, or None.
        p: p-value after Holm, or NaN.
        why: what would decide it, or what is missing.
        parts: for a statement, how many of its parts are confirmed, as text.
        beside: the same comparison on the test splits, for a sign that is about val.
        elsewhere: the same comparison with other data or another network.
    """

    claim: Claim
    status: Status
    qualified: str
    found: Found | None = None
    p: float = math.nan
    why: str = ""
    parts: str = ""
    beside: tuple[tuple[str, Found], ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()


def answers(claims: Sequence[Claim], evidence: Evidence) -> list[Answer]:
    """Return what the finished runs say to claims, in their order.

    Args:
        claims: all claims of their papers, because a family counts those without a run, too.
        evidence: the runs.
    """
    families: dict[str, list[Claim]] = {}
    for claim in claims:
        if claim.kind == "sign":
            families.setdefault(claim.family, []).append(claim)
    signs: dict[str, Answer] = {}
    for members in families.values():
        signs |= {answer.claim.id: answer for answer in _signs(members, evidence)}
    others = {"all of": _statement, "value": _value}
    return [
        signs[claim.id] if claim.id in signs else others[claim.kind](claim, evidence)
        for claim in claims
    ]


def margin(claim: Claim) -> float:
    """Return the smallest relevant difference of a claim, a fraction."""
    return named_preset(claim.preset).margin / POINTS


# --- signs ----------------------------------------------------------------------------------------


def _signs(members: Sequence[Claim], evidence: Evidence) -> list[Answer]:
    """Return the answers of a family."""
    found = {claim.id: evidence.comparison(claim.parts[0]) for claim in members}
    there = [claim for claim in members if found[claim.id]]
    estimates = [found[claim.id].difference.estimate for claim in there]
    verdicts = dict(
        zip(
            [claim.id for claim in there],
            judge(estimates, margin(members[0]), len(members)),
            strict=True,
        )
    )
    return [_sign(claim, found[claim.id], verdicts.get(claim.id), evidence) for claim in members]


def _sign(claim: Claim, found: Found | None, its: Verdict | None, evidence: Evidence) -> Answer:
    part = claim.parts[0]
    status: Status = "not run" if its is None else SAYS.get(its.word, "undecided")
    why = ""
    if its is not None:
        pairs = len(found.difference.per_seed)
        why = its.why if its.word else f"it takes {LEAST_PAIRS} seed pairs and has {pairs}"
    return Answer(
        claim,
        status,
        _qualified(status, claim, found.difference.per_seed if found else ()),
        found,
        its.p if its else math.nan,
        why,
        beside=tuple(_beside(claim, part, evidence)) if claim.on_val else (),
        elsewhere=tuple(evidence.elsewhere(part)),
    )


def _beside(claim: Claim, part: Part, evidence: Evidence) -> list[tuple[str, Found]]:
    """Return the same comparison on the test splits of the data set."""
    name, split_by = claim.dataset.split(":")
    found = []
    for split in datasets.get(name).tests[split_by]:
        there = part.better.split((name, split_by), split)
        if its := evidence.comparison(dataclasses.replace(part, split=there)):
            found.append((split, its))
    return found


def _qualified(status: Status, claim: Claim, seeds: Sequence[int]) -> str:
    words: list[str] = [status]
    if status != "not run" and claim.on_val:
        words.append(claim.on_val)
    if claim.kind == "value" and 0 < len(seeds) < LEAST_PAIRS:
        words.append("this checkpoint" if len(seeds) == 1 else "these two checkpoints")
    return ", ".join(words)


# --- statements -----------------------------------------------------------------------------------


def _statement(claim: Claim, evidence: Evidence) -> Answer:
    found = [evidence.comparison(part) for part in claim.parts]
    estimates = [its.difference.estimate for its in found if its]
    alone = [judge([estimate], margin(claim))[0] for estimate in estimates]
    together = judge(estimates, margin(claim), len(claim.parts))
    confirmed = sum(its.word == "better" for its in alone)
    status: Status = "undecided"
    why = ""
    if any(its.word == "worse" for its in together):
        status = "contradicted"
    elif len(estimates) < len(claim.parts):
        status = "not run"
        why = f"{len(claim.parts) - len(estimates)} of its {len(claim.parts)} parts have no runs"
    elif confirmed == len(claim.parts):
        status = "confirmed"
    elif any(its.word == "no relevant difference" for its in alone):
        status = "no relevant difference"
    else:
        fewest = min(its.pairs for its in estimates)
        if fewest < LEAST_PAIRS:
            why = f"it takes {LEAST_PAIRS} seed pairs, and a part has {fewest}"
        else:
            doubts = [its.why for its in alone if its.why]
            why = doubts[0] if doubts else "a part is worse, and not so after Holm over the parts"
    p = max((its.p for its in together if not math.isnan(its.p)), default=math.nan)
    return Answer(
        claim,
        status,
        _qualified(status, claim, ()),
        p=p if status == "contradicted" else math.nan,
        why=why,
        parts=f"{confirmed} of {len(claim.parts)} parts confirmed" if estimates else "",
    )


# --- values ---------------------------------------------------------------------------------------


def interval(found: Found) -> Interval:
    """Return the interval of a measured value: over seeds and images, from three seeds on."""
    difference = found.difference
    few = len(difference.per_seed) < LEAST_PAIRS
    return difference.over_images if few else difference.interval


def _value(claim: Claim, evidence: Evidence) -> Answer:
    value = claim.value
    found = evidence.value(value)
    if found is None:
        return Answer(claim, "not run", "not run")
    band = BAND / metrics.get(value.metric).factor
    low, high = interval(found)
    status: Status = "undecided"
    if value.value - band <= low and high <= value.value + band:
        status = "confirmed"
    elif high < value.value - band or low > value.value + band:
        status = "contradicted"
    why = ""
    if status == "undecided":
        why = f"the interval is neither within {BAND:g} points of the published value nor outside"
    return Answer(
        claim, status, _qualified(status, claim, found.difference.per_seed), found, why=why
    )
