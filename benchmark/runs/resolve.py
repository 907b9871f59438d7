"""Resolving turns the plan of a preset into the specs of its runs.

A spec needs the digests of data, vocabulary and weights. A command reads each of them once.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import methods
from benchmark import strategies
from benchmark.base.errors import UserError, choose
from benchmark.base.files import read_model
from benchmark.data import datasets
from benchmark.data.refer import ReferDataset
from benchmark.runs import splits
from benchmark.runs.execution import Execution, Places, read_execution
from benchmark.runs.groups import Cell, Group
from benchmark.runs.opened import Opened
from benchmark.runs.preset import Preset
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from benchmark.runs.trainable import check_trainable
from benchmark.strategies.strategy import Strategy
from methods.config import Config, Definition, Recipe

# --- one run --------------------------------------------------------------------------


def changed_recipe(definition: Definition, recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe with some of its fields changed.

    Args:
        definition: the method that the recipe is for.
        recipe: the recipe to start from.
        changes: field -> its new value.

    Raises:
        UserError: a field is not known, its value does not fit, or the micro-batch does not divide
            the batch.
    """
    # A recipe is validated under the names that stand in a spec, some of which are aliases.
    aliases = {name: field.alias or name for name, field in type(recipe).model_fields.items()}
    values = recipe.model_dump() | {
        aliases.get(name, name): value for name, value in changes.items()
    }
    recipe = read_model(definition.recipe_type, values, f"recipe of {definition.name}")
    if recipe.batch_size % recipe.micro_batch:
        raise UserError(
            f"recipe of {definition.name}: micro_batch {recipe.micro_batch} must divide"
            f" batch_size {recipe.batch_size}."
        )
    return recipe


def resolve_strategy(
    name: str, changes: Mapping[str, Any], definition: Definition, config: Config
) -> Strategy:
    """Return the strategy called `name` with changes to the settings that it uses.

    The baseline uses none of them, so it keeps one key whatever is changed for the others.

    Args:
        name: the registered name of the strategy.
        changes: setting -> its new value. A setting that only other strategies use is ignored.
        definition: the method that the strategy will drive.
        config: the method's size, which decides which patch sizes fit.

    Raises:
        UserError: a setting is not known to any strategy, or its value does not fit.
    """
    strategy = strategies.get(name)
    for field in changes:
        choose(field, strategies.settings(), "strategy setting")
    used = {field: value for field, value in changes.items() if field in strategy.tunable()}
    if used:
        own = {field: getattr(strategy, field) for field in type(strategy).model_fields}
        strategy = read_model(type(strategy), own | used, f"strategy {name}")
    strategy.check(definition, config)
    return strategy


def derive(
    base: RunSpec,
    strategy: str,
    settings: Mapping[str, Any],
    recipe: Mapping[str, Any],
    epochs: float = 1,
) -> RunSpec:
    """Return `base` with another strategy and with changes to its settings and recipe.

    The rows of a grid and the trials of a search are made in this way.

    Args:
        base: the spec to start from.
        strategy: the name of the strategy.
        settings: changes to the settings of the strategy.
        recipe: changes to the recipe.
        epochs: the factor by which the length of the training is stretched.

    Raises:
        UserError: a name is not known, or a ratio, patch size or number of epochs does not fit.
    """
    definition = methods.definition(base.method)
    changed = changed_recipe(definition, base.recipe, recipe)
    if epochs != 1:
        changed = changed_recipe(definition, changed, changed.stretched(epochs))
    update = {
        "strategy": resolve_strategy(strategy, settings, definition, base.network),
        "recipe": changed,
        "method_revision": definition.revision(base.variant, changed.precision),
    }
    return base.model_copy(update=update)


# --- a whole preset -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Matrix:
    """The runs of a preset that are to be executed now.

    Attributes:
        name: the name of the plan.
        preset: the preset, narrowed to these runs.
        cells: the cells of these runs, each with the key of its spec.
        specs: the specs of the cells, in the order of the cells.
        needed: the specs of runs that make targets for them, in the order of work.
        opened: the data sets, tokenizers and digests that were read for them.
    """

    name: str
    preset: Preset
    cells: tuple[Cell, ...]
    specs: tuple[RunSpec, ...]
    needed: tuple[RunSpec, ...]
    opened: Opened

    @property
    def places(self) -> Places:
        """Where things lie."""
        return self.opened.places

    @property
    def execution(self) -> Execution:
        """How runs are executed.

        Raises:
            UserError: the preset has an unknown execution setting, or a value that does not fit.
        """
        return read_execution(self.preset.execution)

    def directories(self) -> list[RunDir]:
        """Return the run directories of all specs, whether they exist or not."""
        return [RunDir(self.places.runs / spec.key) for spec in self.specs]

    def group(self, whole: Preset, text: str = "") -> Group:
        """Return the plan, which has all cells of the whole preset.

        Args:
            whole: the preset before it was narrowed. Only cells that were resolved have a key.
            text: the text of the preset's file.
        """
        resolved = {cell.identity: cell for cell in self.cells}
        return Group(
            name=self.name,
            kind="preset",
            description=whole.description,
            text=text,
            axes=whole.axes(),
            primary=dict(whole.primary),
            margin=whole.margin,
            rivals=[list(pair) for pair in whole.rivals],
            cells=[resolved.get(cell.identity, cell) for cell in planned_cells(whole)],
            needed=[spec.key for spec in self.needed],
        )


def planned_cells(preset: Preset, data: Path | None = None) -> list[Cell]:
    """Return the cells of a preset without keys, for which neither data nor weights are read.

    Args:
        preset: the preset.
        data: folder of the data [the preset's], for the message about a data set not known.

    Raises:
        UserError: a name is not known. The message lists the nearest ones.
    """
    cells = []
    for entry in preset.datasets:
        name, split_by = datasets.parse(entry, data or preset.data)
        for method, variant in itertools.product(preset.methods, preset.variants):
            definition = methods.definition(method)
            choose(variant, definition.variants, f"variant of {method}")
            for strategy, seed in itertools.product(preset.strategies, preset.seeds):
                strategies.get(strategy)
                if strategy in preset.leave_out.get(method, ()):
                    continue
                cells.append(Cell(method, variant, strategy, name, split_by, seed))
    return cells


def resolve_preset(
    name: str, preset: Preset, places: Places, write_embedded: bool = False
) -> Matrix:
    """Return the runs of a preset.

    Args:
        name: the name of the plan.
        preset: the preset, narrowed to what is to be run.
        places: where data and weights lie.
        write_embedded: write the embedded data sets that the preset describes, where they are not
            there yet.

    Raises:
        UserError: a name is not known (the message lists the nearest ones), a setting does not
            fit, or data are missing.
    """
    cells = planned_cells(preset, places.data)
    opened = Opened(places)
    reported = [splits.parse(entry, places.data) for entry in preset.report]
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        write = datasets.get(dataset).write if dataset in datasets.DATASETS else None
        if write and preset.refshapes and write_embedded:
            write(places.data, preset.refshapes.sizes(), preset.refshapes.seed)
    resolver = _Resolver(preset, opened, reported)
    specs = [resolver.spec(cell) for cell in cells]
    resolved = [
        dataclasses.replace(cell, key=spec.key) for cell, spec in zip(cells, specs, strict=True)
    ]
    keys = {spec.key for spec in specs}
    needed = tuple(spec for key, spec in resolver.needed.items() if key not in keys)
    return Matrix(name, preset, tuple(resolved), tuple(specs), needed, opened)


def spec_without_files(cell: Cell, preset: Preset) -> RunSpec:
    """Return the spec of a cell as far as neither data nor weights decide it.

    Digests are empty, and the selection is that of the preset.

    Raises:
        UserError: a name is not known, or a setting does not fit.
    """
    definition = methods.definition(cell.method)
    config = definition.config_for(cell.variant, cell.dataset)
    changes = preset.recipes.get(cell.method, {})
    recipe = changed_recipe(definition, definition.recipes[cell.variant], changes)
    return RunSpec(
        method=cell.method,
        variant=cell.variant,
        dataset=cell.dataset,
        split_by=cell.split_by,
        seed=cell.seed,
        strategy=resolve_strategy(cell.strategy, preset.strategy, definition, config),
        recipe=recipe,
        network=config,
        selection=preset.selection,
        data_sha256="",
        tokenizer="",
        weights="",
        method_revision=definition.revision(cell.variant, recipe.precision),
    )


class _Resolver:
    """Makes the specs of cells.

    Attributes:
        needed: key -> spec of each run that makes targets for a cell.
    """

    def __init__(self, preset: Preset, opened: Opened, reported: Sequence[str]) -> None:
        self.preset = preset
        self.opened = opened
        self.reported = reported
        self.needed: dict[str, RunSpec] = {}

    def spec(self, cell: Cell) -> RunSpec:
        """Return the spec of a cell."""
        definition = methods.definition(cell.method)
        dataset = self.opened.dataset(cell.dataset, cell.split_by)
        spec = spec_without_files(cell, self.preset)
        recipe = spec.recipe
        if definition.targets_from and not recipe.pseudo_masks:
            recipe = changed_recipe(
                definition, recipe, {"pseudo_masks": self._targets(definition, cell)}
            )
        check_trainable(definition, recipe, dataset)
        read = {
            "recipe": recipe,
            "selection": self._selection(dataset),
            "data_sha256": dataset.digest(),
            "tokenizer": self.opened.tokenizer(definition, spec.network, dataset).identity(),
            "weights": self.opened.weights_digest(definition, spec.network),
            "report_sha256": self._report_digests(),
        }
        return spec.model_copy(update=read)

    def _targets(self, definition: Definition, cell: Cell) -> str:
        """Return the key of the run whose pseudo masks this one is trained on.

        It is the run of the reference strategy with the same seed. All strategies share it, so
        that two of them differ in nothing but the strategy.
        """
        reference = strategies.reference().name
        spec = self.spec(
            dataclasses.replace(cell, method=definition.targets_from, strategy=reference)
        )
        self.needed[spec.key] = spec
        return spec.key

    def _selection(self, dataset: ReferDataset) -> Any:
        dataset.refs_of(self.preset.selection.split)  # It must have some.
        own = tuple(split for split in dataset.splits if split != datasets.TRAIN)
        return self.preset.selection.model_copy(update={"report": (*own, *self.reported)})

    def _report_digests(self) -> dict[str, str]:
        owners = dict.fromkeys(splits.owner(split)[:2] for split in self.reported)
        for name, split_by, split in map(splits.owner, self.reported):
            self.opened.dataset(name, split_by).refs_of(split)  # It must have some.
        return {":".join(owner): self.opened.dataset(*owner).digest() for owner in owners}
