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
from collections.abc import Callable, Collection, Sequence
from typing import Literal, get_args

from benchmark.base.errors import UserError
from benchmark.data import datasets
from benchmark.evaluation import metrics
from benchmark.evaluation.bootstrap import Interval
from benchmark.evaluation.verdict import LEAST_PAIRS, Verdict, judge
from reports.claims.arm import named_preset
from reports.claims.claims import Claim, Part
from reports.claims.elsewhere import Elsewhere, OtherComparisons
from reports.claims.evidence import Evidence, Found
from reports.verdicts import POINTS

BAND = 1.0  # points by which a measured value may differ from the published one
Status = Literal["confirmed", "contradicted", "no relevant difference", "undecided", "not run"]
STATUSES: tuple[Status, ...] = get_args(Status)
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
        beside: test split -> its comparisons, for a claim that is about val.
        elsewhere: the same comparison with other data, another network or another recipe.
    """

    claim: Claim
    status: Status
    qualified: str
    found: Found | None = None
    p: float = math.nan
    why: str = ""
    parts: str = ""
    beside: tuple[tuple[str, tuple[Found, ...]], ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()


def answers(
    claims: Sequence[Claim], evidence: Evidence, shown: Collection[str] | None = None
) -> list[Answer]:
    """Return what the finished runs say to claims, in their order.

    Args:
        claims: all claims of their papers, because a family counts those without a run, too.
        evidence: the runs.
        shown: ids of the claims to answer [all].
    """
    families: dict[str, list[Claim]] = {}
    for claim in claims:
        if claim.kind == "sign":
            families.setdefault(claim.family, []).append(claim)
    wanted = {claim.id for claim in claims} if shown is None else {*shown}
    others = OtherComparisons(evidence.finished)
    signs: dict[str, Answer] = {}
    for members in families.values():
        if any(claim.id in wanted for claim in members):
            found = _signs(members, evidence, others, wanted)
            signs |= {answer.claim.id: answer for answer in found}
    kinds = {"all of": _statement, "value": _value}
    return [
        signs[claim.id] if claim.kind == "sign" else kinds[claim.kind](claim, evidence)
        for claim in claims
        if claim.id in wanted
    ]


def margin(claim: Claim) -> float:
    """Return the smallest relevant difference of a claim, a fraction."""
    return named_preset(claim.preset).margin / POINTS


def _asked(ask: Callable[[], Found | None]) -> tuple[Found | None, str]:
    """Return what the evidence has, or the error of a damaged file, which is shown as a reason."""
    try:
        return ask(), ""
    except UserError as error:
        return None, str(error)


# --- signs ----------------------------------------------------------------------------------------


def _signs(
    members: Sequence[Claim], evidence: Evidence, others: OtherComparisons, wanted: Collection[str]
) -> list[Answer]:
    """Return the answers of those claims of a family that are wanted."""
    asked = {
        claim.id: _asked(lambda part=claim.parts[0]: evidence.comparison(part)) for claim in members
    }
    there = [claim.id for claim in members if asked[claim.id][0]]
    estimates = [asked[name][0].mean.estimate for name in there]
    verdicts = dict(zip(there, judge(estimates, margin(members[0]), len(members)), strict=True))
    return [
        _sign(claim, *asked[claim.id], verdicts.get(claim.id), evidence, others)
        for claim in members
        if claim.id in wanted
    ]


def _sign(
    claim: Claim,
    found: Found | None,
    error: str,
    its: Verdict | None,
    evidence: Evidence,
    others: OtherComparisons,
) -> Answer:
    part = claim.parts[0]
    status: Status = "not run" if its is None else SAYS.get(its.word, "undecided")
    if its is None:
        why = error or _lacking(part, evidence)
    else:
        pairs = len(found.mean.per_seed)
        why = its.why if its.word else f"it takes {LEAST_PAIRS} seed pairs and has {pairs}"
    return Answer(
        claim,
        status,
        _qualified(status, claim, found.mean.per_seed if found else ()),
        found,
        its.p if its else math.nan,
        why,
        beside=_beside(claim, evidence),
        elsewhere=tuple(others.of(part)),
    )


def _lacking(part: Part, evidence: Evidence) -> str:
    """Return why a comparison has no pair of runs, or "" where an arm has none at all."""
    sides = [(arm, evidence.done(arm, part.split)) for arm in (part.better, part.than)]
    for arm, seeds in sides:
        if not seeds and (why := evidence.lacking(arm, part.split)):
            return why
    if not all(seeds for _, seeds in sides):
        return ""
    if part.corruption and sides[0][1] & sides[1][1]:
        return f"its finished runs are not evaluated under {part.corruption} yet"
    return "its finished runs have no seed, data and targets in common"


def _beside(claim: Claim, evidence: Evidence) -> tuple[tuple[str, tuple[Found, ...]], ...]:
    """Return the same comparisons on the test splits, for a claim about another split."""
    if not claim.on_val:
        return ()
    name, split_by = claim.dataset.split(":")
    found = []
    for split in datasets.get(name).tests[split_by]:
        there = [
            dataclasses.replace(part, split=part.better.split((name, split_by), split))
            for part in claim.parts
        ]
        asked = [_asked(lambda part=part: evidence.comparison(part))[0] for part in there]
        if its := tuple(each for each in asked if each):
            found.append((split, its))
    return tuple(found)


def _qualified(status: Status, claim: Claim, seeds: Collection[int]) -> str:
    words: list[str] = [status]
    if status != "not run" and claim.on_val:
        words.append(claim.on_val)
    if claim.kind == "value" and 0 < len(seeds) < LEAST_PAIRS:
        words.append("this checkpoint" if len(seeds) == 1 else "these two checkpoints")
    return ", ".join(words)


# --- statements -----------------------------------------------------------------------------------


def _statement(claim: Claim, evidence: Evidence) -> Answer:
    asked = [_asked(lambda part=part: evidence.comparison(part)) for part in claim.parts]
    missing = [part for part, (found, _) in zip(claim.parts, asked, strict=True) if not found]
    estimates = [found.mean.estimate for found, _ in asked if found]
    alone = [judge([estimate], margin(claim))[0] for estimate in estimates]
    together = judge(estimates, margin(claim), len(claim.parts))
    worse = [its.p for its in together if its.word == "worse"]
    confirmed = sum(its.word == "better" for its in alone)
    status: Status = "undecided"
    why = ""
    if worse:
        status = "contradicted"
    elif missing:
        status = "not run"
        reasons = [error for _, error in asked if error] or [_lacking(missing[0], evidence)]
        answered = f"{len(missing)} of its {len(claim.parts)} parts have no answer"
        why = f"{answered}: {reasons[0]}" if reasons[0] else answered if estimates else ""
    elif confirmed == len(claim.parts):
        status = "confirmed"
    elif any(its.word == "no relevant difference" for its in alone):
        status = "no relevant difference"
    else:
        fewest = min(its.pairs for its in estimates)
        doubts = [its.why for its in alone if its.why]
        why = doubts[0] if doubts else "a part is worse, and not so after Holm over the parts"
        if fewest < LEAST_PAIRS:
            why = f"it takes {LEAST_PAIRS} seed pairs, and a part has {fewest}"
    return Answer(
        claim,
        status,
        _qualified(status, claim, ()),
        p=min(worse, default=math.nan),
        why=why,
        parts=f"{confirmed} of {len(claim.parts)} parts confirmed" if estimates else "",
        beside=_beside(claim, evidence),
    )


# --- values ---------------------------------------------------------------------------------------


def interval(found: Found) -> Interval:
    """Return the interval of a measured value: over seeds and images, from three seeds on."""
    few = len(found.mean.per_seed) < LEAST_PAIRS
    return found.mean.over_images if few else found.mean.interval


def _value(claim: Claim, evidence: Evidence) -> Answer:
    value = claim.value
    found, error = _asked(lambda: evidence.value(value))
    if found is None:
        why = error or evidence.lacking(value.arm, value.split, value.arm.protocol)
        return Answer(claim, "not run", "not run", why=why)
    band = BAND / metrics.get(value.metric).factor
    low, high = interval(found)
    status: Status = "undecided"
    why = ""
    if value.value - band <= low and high <= value.value + band:
        status = "confirmed"
    elif high < value.value - band or low > value.value + band:
        status = "contradicted"
    elif math.isnan(found.mean.value):
        why = "the paper's protocol gives no number where an expression has no pixel"
    elif math.isnan(low):
        why = "one image alone has no interval"
    else:
        why = "the interval is neither within one point of the published value nor outside"
    qualified = _qualified(status, claim, found.mean.per_seed)
    return Answer(claim, status, qualified, found, why=why)
