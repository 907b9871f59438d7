"""What to run and what is left: a preset, narrowed by options, becomes the specs of a set of runs."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

import methods
from benchmark import pretrained, strategies
from benchmark.data import refer
from benchmark.data.combined import read_combined
from benchmark.data.refer import ReferDataset
from benchmark.data.refshapes import RefShapesSize, write_refshapes
from benchmark.data.vocabulary import Tokeniser, published_tokeniser, trained_tokeniser
from benchmark.errors import UserError, choose
from benchmark.masking import check_image_mask, check_text_mask
from benchmark.rundir import RunDir
from benchmark.spec import RunSpec, Selection, read_model, read_yaml
from benchmark.training import Execution
from methods.protocol import Config, Method, Recipe

PRESETS = Path(__file__).parent / "presets"


class RefShapes(BaseModel):
    """Size and seed of the embedded data sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: int = Field(ge=1)
    val: int = Field(ge=1)
    testA: int = Field(ge=1)
    testB: int = Field(ge=1)
    seed: int = 0


class Preset(BaseModel):
    """A named matrix.

    Attributes:
        description: one line; the file's head says what its numbers mean and what they do not.
        methods, strategies, datasets, variants, seeds: the matrix is their product.
            A data set may say how it is split: `refcocog:google`. data: default folder of the data sets.
        refshapes: how large the embedded sets are written, where `datasets` names one.
        recipes: method -> changes to its variant's recipe. strategy: changes to every strategy.
        selection: how the epoch is chosen; reported are all splits of a data set but train.
        execution, jobs: where it runs, and how many runs at a time; no part of any key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    methods: tuple[str, ...]
    strategies: tuple[str, ...]
    datasets: tuple[str, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    data: Path
    refshapes: RefShapes | None = None
    recipes: dict[str, dict[str, Any]] = {}
    strategy: dict[str, Any] = {}
    selection: Selection = Selection()
    execution: dict[str, Any] = {}
    jobs: int = Field(default=1, ge=1)


def preset_names() -> list[str]:
    """Return the shipped presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_preset(name: str) -> Preset:
    """Return the preset called `name`, or the one in the YAML file `name`.

    Raises:
        UserError: there is none, or a field of it is wrong.
    """
    path = (
        Path(name) if name.endswith((".yaml", ".yml")) else PRESETS / f"{choose(name, preset_names(), 'preset')}.yaml"
    )
    return read_model(Preset, read_yaml(path, "preset", preset_names()), f"preset {path.name}")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a data set lies on this machine: no part of any key."""

    root: Path
    images: Path | None = None


def open_dataset(name: str, split_by: str, place: Place) -> ReferDataset:
    """Return a data set; `combined` is put together from the three RefCOCO sets."""
    if name == "combined":
        return read_combined(place.root, place.images)
    return refer.read_refer(place.root, name, split_by, place.images)


def tokeniser_of(method: type[Method], config: Config, dataset: ReferDataset) -> Tokeniser:
    """Return the published word pieces for pretrained encoders, else pieces trained on the training sentences."""
    family, field = method.text
    if config.pretrained != "scratch":
        return published_tokeniser(family, pretrained.local("bert-base-uncased") if family == "bert" else None)
    return trained_tokeniser(family, [getattr(s, field) for ref in dataset.refs_of("train") for s in ref.sentences])


def starting_digest(method: type[Method], config: Config) -> str:
    """Return the digest of the published weights that a network starts from, or `scratch`."""
    return "scratch" if config.pretrained == "scratch" else pretrained.digest(method.weights.starting_weights(config))


def changed_recipe(method: type[Method], recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe with `changes`; an unknown field or a wrong value raises a UserError."""
    values = {**recipe.model_dump(), **changes}
    recipe = read_model(method.recipe_type, values, f"recipe of {method.name}")
    if recipe.batch_size % recipe.micro_batch:
        raise UserError(
            f"recipe of {method.name}: micro_batch {recipe.micro_batch} must divide batch_size {recipe.batch_size}."
        )
    return recipe


def resolve_strategy(name: str, changes: dict[str, Any], size: int) -> strategies.Strategy:
    """Return the strategy with `changes` to the settings that it uses, checked against the network input.

    The baseline uses none of them, so it keeps one key whatever is changed for the others.
    """
    strategy = strategies.get(name)
    used = set()
    if strategy.image_mask:
        used |= {"image_mask_ratio", "patch_size", "image_mask_sampling"}
    if strategy.text_mask:
        used |= {"text_mask_ratio", "text_mask_shares"}
    if strategy.distillation:
        used |= {"distill_weight", "batchnorm_in_masked_pass"}
    elif used:
        used |= {"augment_probability"}
    for field in changes:
        choose(field, strategies.SETTINGS, "strategy setting")
    values = {**strategy.model_dump(), **{field: value for field, value in changes.items() if field in used}}
    strategy = read_model(strategies.Strategy, values, f"strategy {name}")
    if strategy.image_mask:
        check_image_mask(size, strategy.patch_size, strategy.image_mask_ratio, strategy.image_mask_sampling)
    if strategy.text_mask:
        check_text_mask(strategy.text_mask_ratio, strategy.text_mask_shares)
    return strategy


def execution_of(settings: Mapping[str, Any]) -> Execution:
    """Return how runs are executed; an unknown setting raises a UserError."""
    for field in settings:
        choose(field, [item.name for item in dataclasses.fields(Execution)], "execution setting")
    return Execution(**settings)


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Resolved runs of a preset.

    Attributes:
        name: of the preset. preset: narrowed by the options. specs: what is to be run. place: where the data lie.
    """

    name: str
    preset: Preset
    specs: tuple[RunSpec, ...]
    place: Place

    @property
    def execution(self) -> Execution:
        """Return how runs are executed."""
        return execution_of(self.preset.execution)

    def directories(self, runs: Path) -> list[RunDir]:
        """Return the run directories of all specs, whether they exist or not."""
        return [RunDir(runs / spec.key) for spec in self.specs]


def narrow(preset: Preset, **choices: Sequence[Any] | None) -> Preset:
    """Return the preset with the axes that were given replaced; names are validated by `resolve`."""
    return preset.model_copy(update={axis: tuple(values) for axis, values in choices.items() if values})


def resolve(name: str, preset: Preset, data: Path | None = None, images: Path | None = None) -> Matrix:
    """Return the runs of a preset; writes RefShapes where a run needs it and it is not there.

    Raises:
        UserError: a name is not known (the nearest are listed), a setting does not fit, or data are missing.
    """
    place = Place(data or preset.data, images)
    for method in preset.methods:
        methods.get(method)
    for strategy in preset.strategies:
        strategies.get(strategy)
    specs = []
    for entry in preset.datasets:
        dataset_name, _, chosen = entry.partition(":")
        split_by = chosen or refer.default_split_by(dataset_name)
        if dataset_name.startswith("refshapes") and preset.refshapes and data is None:
            size = preset.refshapes.model_dump()
            seed = size.pop("seed")
            write_refshapes(place.root, dataset_name, RefShapesSize(**size), seed)
        dataset = open_dataset(dataset_name, split_by, place)
        digest = dataset.digest()
        report = tuple(split for split in dataset.splits if split != "train")
        for method_name, variant in itertools.product(preset.methods, preset.variants):
            method = methods.get(method_name)
            choose(variant, method.variants, f"variant of {method_name}")
            config = method.config_for(variant, dataset_name)
            tokeniser = tokeniser_of(method, config, dataset)
            recipe = changed_recipe(method, method.recipes[variant], preset.recipes.get(method_name, {}))
            weights = starting_digest(method, config)
            for strategy_name, seed in itertools.product(preset.strategies, preset.seeds):
                specs.append(
                    RunSpec(
                        method=method_name,
                        variant=variant,
                        dataset=dataset_name,
                        split_by=split_by,
                        seed=seed,
                        strategy=resolve_strategy(strategy_name, preset.strategy, config.size),
                        recipe=recipe,
                        network=config,
                        selection=preset.selection.model_copy(update={"report": report}),
                        data_sha256=digest,
                        tokeniser=tokeniser.identity(),
                        weights=weights,
                        method_revision=method.revision,
                    )
                )
    return Matrix(name, preset, tuple(specs), place)


def open_run(spec: RunSpec, place: Place, dataset: ReferDataset | None = None) -> tuple[ReferDataset, Tokeniser]:
    """Return what a run needs of the data; `dataset` is taken where another run has opened it already.

    Raises:
        UserError: the data at `place` are not the ones that the run's key names.
    """
    dataset = dataset or open_dataset(spec.dataset, spec.split_by, place)
    if dataset.digest() != spec.data_sha256:
        raise UserError(
            f"the data in {place.root} are not those of the run (sha256 {spec.data_sha256[:12]}): restore them, or plan"
            " the matrix again for the new data."
        )
    tokeniser = tokeniser_of(methods.get(spec.method), spec.network, dataset)
    if tokeniser.identity() != spec.tokeniser:
        raise UserError("the vocabulary made from these data is not the run's: install the pinned `tokenizers`.")
    return dataset, tokeniser
