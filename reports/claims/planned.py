"""The runs of claims as a plan: their specs on the data of this machine, and their cells."""

import dataclasses
from collections.abc import Mapping, Sequence

from benchmark import strategies
from benchmark.base.errors import UserError
from benchmark.runs import splits
from benchmark.runs.execution import Execution, Places, read_execution
from benchmark.runs.groups import Cell, Group
from benchmark.runs.preset import Preset
from benchmark.runs.resolve import derive, resolve_preset
from benchmark.runs.spec import RunSpec
from reports.claims.arm import Arm, named_preset
from reports.claims.claims import Claim


@dataclasses.dataclass(frozen=True)
class PlannedArms:
    """The runs that some claims ask for.

    Attributes:
        preset: by which they are made, with the seeds that are wanted.
        specs: of all arms and seeds.
        needed: of runs that make targets for them, in the order of work.
        cells: of the specs, in their order.
    """

    preset: Preset
    specs: tuple[RunSpec, ...]
    needed: tuple[RunSpec, ...]
    cells: tuple[Cell, ...]

    @property
    def execution(self) -> Execution:
        """How the runs are executed."""
        return read_execution(self.preset.execution)

    def group(self, name: str) -> Group:
        """Return these runs as the plan `name`."""
        return Group(
            name=name,
            kind="preset",
            description="runs that claims ask for",
            primary=dict(self.preset.primary),
            margin=self.preset.margin,
            cells=list(self.cells),
            needed=[spec.key for spec in self.needed],
        )


def chosen_preset(claims: Sequence[Claim], seeds: Sequence[int] | None) -> Preset:
    """Return the preset by which the runs of claims are made.

    Args:
        claims: the claims.
        seeds: in place of the preset's, if any.

    Raises:
        UserError: the claims are of several presets.
    """
    names = list(dict.fromkeys(claim.preset for claim in claims))
    if len(names) > 1:
        raise UserError(
            f"these claims are asked with the presets {' and '.join(names)}, which differ in data"
            " and machine: run the claims of one preset at a time."
        )
    preset = named_preset(names[0])
    return preset.model_copy(update={"seeds": tuple(seeds)}) if seeds else preset


def resolve_arms(
    claims: Sequence[Claim],
    every: Sequence[Claim],
    preset: Preset,
    places: Places,
    write_embedded: bool = False,
) -> PlannedArms:
    """Return the runs that claims ask for, each once.

    Args:
        claims: the claims.
        every: all claims that are known. A run is reported on all splits that any of them asks of
            it, so that it serves them all.
        preset: by which the runs are made.
        places: where data and weights lie.
        write_embedded: write the embedded data sets of the preset where they are not there yet.

    Raises:
        UserError: data or weights are missing.
    """
    arms = {arm.identity: arm for claim in claims for arm in claim.arms}
    reported = _reported(every)
    specs: dict[str, tuple[RunSpec, Cell]] = {}
    needed: dict[str, RunSpec] = {}
    for (dataset, split_by, variant), members in _by_data(arms).items():
        baselines = preset.model_copy(
            update={
                "methods": tuple(dict.fromkeys(arm.spec.method for arm in members)),
                "strategies": (strategies.reference().name,),
                "variants": (variant,),
                "datasets": (f"{dataset}:{split_by}",),
                "report": tuple(reported.get((dataset, split_by), ())),
            }
        )
        matrix = resolve_preset("claims", baselines, places, write_embedded)
        needed |= {spec.key: spec for spec in matrix.needed}
        for base in matrix.specs:
            for arm in members:
                if arm.spec.method == base.method:
                    spec = derive(base, **arm.changes)
                    specs[spec.key] = (spec, Cell.of(spec, arm.row))
    planned = [spec for spec, _ in specs.values()]
    makers = [spec for key, spec in needed.items() if key not in specs]
    cells = [cell for _, cell in specs.values()]
    return PlannedArms(preset, tuple(planned), tuple(makers), tuple(cells))


def _by_data(arms: Mapping[str, Arm]) -> dict[tuple[str, str, str], list[Arm]]:
    """Return data set, way of splitting and variant -> arms."""
    found: dict[tuple[str, str, str], list[Arm]] = {}
    for arm in arms.values():
        spec = arm.spec
        found.setdefault((spec.dataset, spec.split_by, spec.variant), []).append(arm)
    return found


def _reported(claims: Sequence[Claim]) -> dict[tuple[str, str], list[str]]:
    """Return training set -> splits of other sets that claims ask of it, as presets write them."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for claim in claims:
        for arm, split in claim.asked:
            if owner := splits.owner(split):
                own = (arm.spec.dataset, arm.spec.split_by)
                found.setdefault(own, {})[":".join(owner)] = None
    return {own: [*names] for own, names in found.items()}
