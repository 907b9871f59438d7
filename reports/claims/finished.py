"""Which finished runs of a folder are the claims' own, and which compare the same elsewhere.

A run is a claim's own if all of its spec is the claim's, but for the seed and what is read from the
machine, and if it took as many steps as the published training set makes it take. Predictions that
were made elsewhere are a claim's own if whoever scored them said that they stand for its row.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.data import datasets
from benchmark.planning import hours
from benchmark.runs import splits
from benchmark.runs.predictions import AnySpec, PredictionsSpec
from benchmark.runs.rundir import RunDir, all_runs
from benchmark.runs.spec import RunSpec
from reports import labels
from reports.claims.arm import Arm, identity
from reports.claims.claims import Claim
from reports.collected import Run, load_run

TOLERANCE = 0.01  # share by which a set's counts may differ from the published ones
# A joined set drops the images that its parts test on, so it has less than all of their refs.
LEAST_OF_JOINED = 0.5

Runs = dict[int, Run]


@dataclasses.dataclass(frozen=True)
class Member:
    """A finished run.

    Attributes:
        spec: its configuration.
        run: its directory.
    """

    spec: AnySpec
    run: RunDir


class FinishedRuns:
    """The finished runs of a folder that claims can use. Each is read once.

    Attributes:
        own: identity of an arm -> its runs.
        others: what runs share besides strategy and seed, as text -> the runs that are no arm's.
        refused: identity of an arm -> why runs with its spec do not count.
        damaged: key of a run that cannot be read -> why.
    """

    def __init__(self, runs: Path, claims: Iterable[Claim], read: Iterable[Run] = ()) -> None:
        """Sort the finished runs of a folder.

        Args:
            runs: the folder.
            claims: that are asked.
            read: finished runs of the folder that are read already.
        """
        self.own: dict[str, list[Member]] = {}
        self.others: dict[str, list[Member]] = {}
        self.refused: dict[str, list[str]] = {}
        self.damaged: dict[str, str] = {}
        self._loaded: dict[str, Run | None] = {run.key: run for run in read}
        arms = {arm.identity: arm for claim in claims for arm in claim.every_arm}
        asked = {arm.spec.method for arm in arms.values()}
        for run in all_runs(runs):
            # A key begins with the name of the method, and a spec takes a while to read.
            if any(run.key.startswith(f"{method}-") for method in asked):
                self._sort(run, arms)
        self._check_targets(arms.values())

    def _sort(self, run: RunDir, arms: dict[str, Arm]) -> None:
        try:
            known = self._loaded.get(run.key)
            status = None if known else run.status()
            if status and status.state == "damaged":
                self.damaged[run.key] = status.reason
            if status and status.state != "done":
                return
            spec = known.spec if known else run.any_spec()
            if isinstance(spec, PredictionsSpec):
                self._sort_predictions(Member(spec, run), arms)
                return
            name = identity(spec)
            refusal = _refusal(spec, run) if name in arms else ""
        except UserError as error:
            self.damaged[run.key] = str(error)
            return
        if spec.key != run.key:
            return  # a copy of another run, under a name of its own
        member = Member(spec, run)
        if name in arms and not refusal:
            self.own.setdefault(name, []).append(member)
        else:
            rest = labels.identity(spec, {"seed", "strategy"})
            self.others.setdefault(rest, []).append(member)
            if refusal:
                self.refused.setdefault(name, []).append(refusal)

    def _sort_predictions(self, member: Member, arms: dict[str, Arm]) -> None:
        """Give predictions to the arms whose row they stand for."""
        if member.spec.stands_for is None or member.spec.key != member.run.key:
            return
        for name, arm in arms.items():
            # Nobody can say of predictions that they are those of an ablation.
            if not arm.row and _row(arm.spec) == _row(member.spec):
                self.own.setdefault(name, []).append(member)

    def _check_targets(self, arms: Iterable[Arm]) -> None:
        """Refuse runs whose training targets were not made by the run that the claim names."""
        for arm in arms:
            if not arm.targets or arm.identity not in self.own:
                continue
            makers = {
                (its.run.key, its.spec.seed) for its in self.own.get(arm.targets.identity, [])
            }
            kept = []
            for member in self.own[arm.identity]:
                is_made_elsewhere = isinstance(member.spec, PredictionsSpec)
                if is_made_elsewhere or (targets_of(member.spec), member.spec.seed) in makers:
                    kept.append(member)
                else:
                    self.refused.setdefault(arm.identity, []).append(
                        f"the targets of {member.run.key} were not made by a run of this claim"
                    )
            self.own[arm.identity] = kept

    def of(self, arm: Arm) -> list[Member]:
        """Return the runs of an arm, whatever their seed."""
        return self.own.get(arm.identity, [])

    def load(self, member: Member) -> Run | None:
        """Return a run with its records, or None where it is damaged."""
        key = member.run.key
        if key not in self._loaded:
            try:
                self._loaded[key] = load_run(member.spec, member.run)
            except UserError as error:
                self._loaded[key] = None
                self.damaged[key] = str(error)
        return self._loaded[key]


def _row(spec: AnySpec) -> tuple[str, ...]:
    return spec.method, spec.variant, spec.strategy.name, spec.dataset, spec.split_by


def targets_of(spec: AnySpec) -> str:
    """Return the key of the run that made the targets of a training, or "" where none did."""
    if isinstance(spec, PredictionsSpec):
        return ""
    return getattr(spec.recipe, "pseudo_masks", "") or ""


def _refusal(spec: RunSpec, run: RunDir) -> str:
    """Return why a run has not trained on the published data, or "" where nothing says so.

    A folder called like a data set may hold a part of it.
    """
    samples, steps = hours.samples(spec), run.status().steps
    if samples is None or not steps:
        return ""
    expected = samples / spec.recipe.batch_size
    joined = datasets.get(spec.dataset).joins
    least = LEAST_OF_JOINED if joined else 1 - TOLERANCE
    if least * expected <= steps <= (1 + TOLERANCE) * expected:
        return ""
    about = "at most " if joined else ""
    return f"{run.key} took {steps} steps, and the published data make {about}{expected:.0f}"


def wrong_size(run: Run, split: str) -> str:
    """Return how a split differs in size from the published one, or "" where it does not."""
    spec, expressions = run.spec, len(run.splits[split].expressions)
    name, split_by, own = splits.owner(split) or (spec.dataset, spec.split_by, split)
    known = datasets.get(name).counts.get(split_by, {}).get(own)
    if known is None or known.expressions is None:
        return ""
    if abs(expressions - known.expressions) <= TOLERANCE * known.expressions:
        return ""
    return f"{split} has {expressions} expressions, and the published one {known.expressions}"
