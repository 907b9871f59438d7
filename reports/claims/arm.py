"""An arm of a claim: a run with everything that the claim fixes, and nothing of where it is run."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import methods
from benchmark import strategies
from benchmark.base.errors import choose
from benchmark.planning.preset_check import read_checked
from benchmark.runs import splits
from benchmark.runs.preset import Preset
from benchmark.runs.resolve import changed_recipe, derive
from benchmark.runs.spec import RunSpec
from reports import labels
from reports.claims.paper import Row

SCALED = {"patch_size"}  # settings that follow the size of the network input
# What a claim does not fix: the seed, what is read from the machine, and what else is reported.
OPEN = {"seed", "data_sha256", "tokenizer", "weights", "report_sha256"}


@dataclasses.dataclass(frozen=True)
class Arm:
    """A run that a claim is about.

    Attributes:
        label: what the claim calls it.
        spec: its configuration, with seed 0 and without digests and reported splits.
        changes: arguments of `derive` that make it from a run of the reference.
        protocol: published protocol of its values, or "" for the suite's own evaluation.
        row: what tells it from other runs of its strategy in a plan, or "".
        is_relative: whether it is defined by a size or length, which other networks have otherwise.
        targets: the run that makes the targets of its training, if another one does.
    """

    label: str
    spec: RunSpec
    changes: Mapping[str, Any]
    protocol: str
    row: str = ""
    is_relative: bool = False
    targets: "Arm | None" = None

    @functools.cached_property
    def identity(self) -> str:
        """A text that the arm shares with the runs that are its own, whatever their seed."""
        return identity(self.spec)

    def split(self, dataset: tuple[str, str], split: str) -> str:
        """Return the name under which its runs report a split of a data set."""
        own = dataset == (self.spec.dataset, self.spec.split_by)
        return split if own else splits.label(*dataset, split)


def identity(spec: RunSpec) -> str:
    """Return all of a spec that a claim fixes, as text."""
    selection = spec.selection.model_copy(update={"report": ()})
    fixed = {"selection": selection}
    if "pseudo_masks" in type(spec.recipe).model_fields:
        # It is the key of the run that made the targets, which differs from seed to seed.
        fixed["recipe"] = spec.recipe.model_copy(update={"pseudo_masks": ""})
    return labels.identity(spec.model_copy(update=fixed), OPEN)


def arm(row: Row, dataset: tuple[str, str], preset_name: str) -> Arm:
    """Return the run that stands behind a row of a paper.

    Args:
        row: the row.
        dataset: name and way of splitting of the set that it is trained on.
        preset_name: name of the preset whose recipes, strategies and selection it has otherwise.

    Raises:
        UserError: a name is not known, or a setting does not fit.
    """
    definition = methods.definition(row.method)
    choose(row.variant, definition.variants, f"variant of {row.method}")
    preset = named_preset(preset_name)
    of_preset = preset.recipes.get(row.method, {})
    base = RunSpec(
        method=row.method,
        variant=row.variant,
        dataset=dataset[0],
        split_by=dataset[1],
        seed=0,
        strategy=strategies.reference(),
        recipe=changed_recipe(definition, definition.recipes[row.variant], of_preset),
        network=definition.config_for(row.variant, dataset[0]),
        selection=preset.selection.model_copy(update={"report": ()}),
        data_sha256="",
        tokenizer="",
        weights="",
        method_revision=1,
    )
    changes = {
        "strategy": row.strategy or strategies.reference().name,
        "settings": {**preset.strategy, **row.settings},
        "recipe": row.recipe,
        "epochs": row.epochs,
    }
    targets = None
    if maker := definition.targets_from:
        own = Row(label=f"{row.label}: targets", method=maker, variant=row.variant)
        targets = arm(own, dataset, preset_name)
    spec = derive(base, **changes)  # This also sets the revision that the code has now.
    plain = derive(base, changes["strategy"], preset.strategy, {})
    return Arm(
        row.label,
        spec,
        changes,
        row.protocol,
        # A row that only says what the strategy has anyway is the same run as one that does not.
        "" if spec == plain else row.label,
        bool(row.recipe or row.epochs != 1 or SCALED & {*row.settings}),
        targets,
    )


@functools.cache
def named_preset(name: str) -> Preset:
    """Return a preset by which claims are asked.

    Raises:
        UserError: there is none, or a value of it is wrong.
    """
    return read_checked(name)
