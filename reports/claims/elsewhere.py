"""The same comparison elsewhere: runs that compare a claim's strategies and answer no claim.

Their data, network or recipe is not the paper's. They are shown beside the claim, since they may be
all that there is.
"""

import dataclasses
import json

from benchmark.runs.spec import RunSpec
from benchmark.strategies.strategy import Strategy
from reports import labels
from reports.claims.arm import SCALED, Arm
from reports.claims.claims import Part
from reports.claims.evidence import Found, paired, turned
from reports.claims.finished import FinishedRuns, Member, Runs, targets_of


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """A comparison with other data, another network or another recipe.

    Attributes:
        where: method, variant, data set and split, and what else is not the paper's.
        found: what its runs say.
    """

    where: str
    found: Found


class OtherComparisons:
    """The same comparisons elsewhere."""

    def __init__(self, finished: FinishedRuns) -> None:
        self._finished = finished

    def of(self, part: Part) -> list[Elsewhere]:
        """Return the same comparison elsewhere, what has most pairs first."""
        arms = (part.better, part.than)
        if part.corruption or any(arm.is_relative for arm in arms):
            return []
        found = []
        for members in self._finished.others.values():
            spec = members[0].spec
            if spec.method != part.better.spec.method or part.split not in spec.selection.report:
                continue
            both = [_by_strategy(members, arm) for arm in arms]
            several = any(len(by_strategy) > 1 for by_strategy in both)
            for better in both[0].values():
                for than in both[1].values():
                    if its := self._pair(better, than, part):
                        where = _where(spec, part, (better, than) if several else ())
                        found.append(Elsewhere(where, its))
        return sorted(found, key=lambda its: (-len(its.found.mean.per_seed), its.where))

    def _pair(self, better: list[Member], than: list[Member], part: Part) -> Found | None:
        runs: list[Runs] = []
        for members in (better, than):
            loaded = {its.spec.seed: self._finished.load(its) for its in members}
            runs.append({seed: run for seed, run in sorted(loaded.items()) if run})
        seeds = [
            seed
            for seed in runs[0]
            if seed in runs[1] and _same_targets(runs[0][seed].spec, runs[1][seed].spec)
        ]
        if not seeds:
            return None
        one, other = ({seed: by_seed[seed] for seed in seeds} for by_seed in runs)
        keys = tuple(run.key for run in (*one.values(), *other.values()))
        difference = paired(one, other, part.split).get(part.metric)
        return Found(turned(difference, part.metric), keys) if difference else None


def _same_targets(one: RunSpec, other: RunSpec) -> bool:
    return targets_of(one) == targets_of(other)


def _by_strategy(members: list[Member], arm: Arm) -> dict[str, list[Member]]:
    """Return the runs of an arm's strategy, by what it has besides what follows the input size."""
    wanted = _unscaled(arm.spec.strategy)
    found: dict[str, list[Member]] = {}
    for member in members:
        if _unscaled(member.spec.strategy) == wanted:
            found.setdefault(labels.identity(member.spec.strategy), []).append(member)
    return found


def _unscaled(strategy: Strategy) -> str:
    """Return a strategy as text, without what follows the size of the network input."""
    values = strategy.model_dump(mode="json")
    return json.dumps({name: values[name] for name in sorted({*values} - SCALED)})


def _where(spec: RunSpec, part: Part, several: tuple[list[Member], ...]) -> str:
    """Return where a comparison is made, and what of it is not the paper's."""
    text = f"{spec.method} {spec.variant} on {spec.dataset} {part.split}"
    arm = part.better.spec
    same = (spec.variant, spec.dataset, spec.split_by) == (arm.variant, arm.dataset, arm.split_by)
    notes = []
    if same:
        differs = [
            name for name in ("recipe", "network") if getattr(spec, name) != getattr(arm, name)
        ]
        notes.append(f"another {differs[0]}" if differs else "other data or code")
    for members in several:
        strategy = members[0].spec.strategy
        used = sorted(SCALED & strategy.tunable())
        notes += [f"{name} {getattr(strategy, name)}" for name in used]
    return f"{text}, {', '.join(notes)}" if notes else text
