"""What to run and what is left: a preset, narrowed by options, becomes the specs of a set of runs."""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import methods
from benchmark.base import pretrained
from benchmark.base.errors import UserError, choose
from benchmark.base.files import read_model
from benchmark.data import refer
from benchmark.data.combined import read_combined
from benchmark.data.refer import ReferDataset
from benchmark.data.refshapes.writer import RefShapesSize, write_refshapes
from benchmark.data.tokenizers import Tokenizer, published_tokenizer, trained_tokenizer
from benchmark.runs.execution import Execution, Place, execution_of
from benchmark.runs.preset import Preset
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from benchmark.strategies.masking import check_image_mask, check_text_mask
from benchmark.strategies.strategy import SETTINGS, Strategy, get_strategy
from methods.config import Config, Recipe
from methods.contract import Method


def open_dataset(name: str, split_by: str, place: Place) -> ReferDataset:
    """Return a data set; `combined` is put together from the three RefCOCO sets."""
    if name == "combined":
        return read_combined(place.root, place.images)
    return refer.read_refer(place.root, name, split_by, place.images)


def tokenizer_of(method: type[Method], config: Config, dataset: ReferDataset) -> Tokenizer:
    """Return the published word pieces for pretrained encoders, else pieces trained on the training sentences."""
    family, field = method.text
    if config.pretrained != "scratch":
        return published_tokenizer(family, pretrained.local("bert-base-uncased") if family == "bert" else None)
    return trained_tokenizer(family, [getattr(s, field) for ref in dataset.refs_of("train") for s in ref.sentences])


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


def resolve_strategy(name: str, changes: dict[str, Any], size: int) -> Strategy:
    """Return the strategy with `changes` to the settings that it uses, checked against the network input.

    The baseline uses none of them, so it keeps one key whatever is changed for the others.
    """
    strategy = get_strategy(name)
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
        choose(field, SETTINGS, "strategy setting")
    values = {**strategy.model_dump(), **{field: value for field, value in changes.items() if field in used}}
    strategy = read_model(Strategy, values, f"strategy {name}")
    if strategy.image_mask:
        check_image_mask(size, strategy.patch_size, strategy.image_mask_ratio, strategy.image_mask_sampling)
    if strategy.text_mask:
        check_text_mask(strategy.text_mask_ratio, strategy.text_mask_shares)
    return strategy


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


def resolve_preset(name: str, preset: Preset, data: Path | None = None, images: Path | None = None) -> Matrix:
    """Return the runs of a preset; writes RefShapes where a run needs it and it is not there.

    Raises:
        UserError: a name is not known (the nearest are listed), a setting does not fit, or data are missing.
    """
    place = Place(data or preset.data, images)
    for method in preset.methods:
        methods.get(method)
    for strategy in preset.strategies:
        get_strategy(strategy)
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
            tokenizer = tokenizer_of(method, config, dataset)
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
                        tokenizer=tokenizer.identity(),
                        weights=weights,
                        method_revision=method.revision,
                    )
                )
    return Matrix(name, preset, tuple(specs), place)


def open_run(spec: RunSpec, place: Place, dataset: ReferDataset | None = None) -> tuple[ReferDataset, Tokenizer]:
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
    tokenizer = tokenizer_of(methods.get(spec.method), spec.network, dataset)
    if tokenizer.identity() != spec.tokenizer:
        raise UserError("the vocabulary made from these data is not the run's: install the pinned `tokenizers`.")
    return dataset, tokenizer
