"""What a claim still needs: runs that are not done, measurements of them, and card-hours."""

import dataclasses

from benchmark.planning import hours
from reports.claims.arm import named_preset
from reports.claims.claims import Claim
from reports.claims.evidence import Evidence


@dataclasses.dataclass(frozen=True)
class Needed:
    """What it would take to answer a claim with the seeds of the preset.

    Attributes:
        runs: number of runs that are not done.
        hours: their training on one card, or None where nothing says how long a run takes.
        source: what the hours are from.
    """

    runs: int
    hours: float | None
    source: str


def needed(claim: Claim, evidence: Evidence) -> Needed:
    """Return what a claim still needs."""
    seeds = {*named_preset(claim.preset).seeds}
    missing = {}
    for arm in claim.every_arm:
        done = evidence.finished(arm)
        there = {run.spec().seed for run in done}
        if lacking := len(seeds - there):
            missing[arm.identity] = (lacking, hours.training_hours(arm.spec, done))
    if not missing:
        return Needed(0, 0.0, "")
    every = [its for _, its in missing.values()]
    count = sum(lacking for lacking, _ in missing.values())
    if None in every:
        return Needed(count, None, "")
    total = sum(lacking * its.value for lacking, its in missing.values())
    return Needed(count, total, ", ".join(dict.fromkeys(its.source for its in every)))
