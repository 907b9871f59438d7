"""What claims still need: runs that are not done, measurements of them, and card-hours."""

import dataclasses
from collections.abc import Iterable

from benchmark.planning import hours
from benchmark.runs.spec import RunSpec
from reports.claims.arm import Arm, named_preset
from reports.claims.claims import Claim
from reports.claims.evidence import Evidence


@dataclasses.dataclass(frozen=True)
class Needed:
    """What it would take to answer claims with the seeds of their preset.

    Attributes:
        runs: number of runs that are not done.
        hours: their training on one card, or None where nothing says how long a run takes.
        source: what the hours are from.
    """

    runs: int
    hours: float | None
    source: str


def needed(
    claims: Iterable[Claim], evidence: Evidence, seeds: Iterable[int] | None = None
) -> Needed:
    """Return what claims still need. A run that several of them need counts once.

    Args:
        claims: the claims.
        evidence: the runs.
        seeds: that are wanted [those of the claims' preset].
    """
    missing: dict[str, tuple[Arm, set[int]]] = {}
    for claim in claims:
        wanted = {*(named_preset(claim.preset).seeds if seeds is None else seeds)}
        for arm, split in claim.asked:
            # Predictions that were made elsewhere spare no training.
            lacking = wanted - {
                seed
                for by_seed in evidence.of(arm, split).values()
                for seed, run in by_seed.items()
                if isinstance(run.spec, RunSpec)
            }
            arms = [arm, *([arm.targets] if arm.targets else [])]
            for its in arms:
                # Predictions that were made elsewhere make no targets.
                finished = {
                    member.spec.seed
                    for member in evidence.finished.of(its)
                    if isinstance(member.spec, RunSpec)
                }
                # A run that makes targets need not report the split.
                still = lacking if its is arm else lacking - finished
                missing.setdefault(its.identity, (its, set()))[1].update(still)
    each = [
        (len(still), hours.training_hours(arm.spec, [m.run for m in evidence.finished.of(arm)]))
        for arm, still in missing.values()
        if still
    ]
    count = sum(lacking for lacking, _ in each)
    if any(its is None for _, its in each):
        return Needed(count, None, "")
    total = sum(lacking * its.value for lacking, its in each)
    return Needed(count, total, ", ".join(dict.fromkeys(its.source for _, its in each)))
