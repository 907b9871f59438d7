"""The scientific configuration of one run, and the key that names it."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SerializeAsAny, model_validator

import methods
from benchmark import strategies
from benchmark.strategies.strategy import Strategy
from methods.config import WIRE, Config, Recipe


class Selection(BaseModel):
    """Which epoch of a run is reported, and on what.

    Attributes:
        split: the split whose numbers choose the epoch. Every expression of it counts.
        metric: what is highest at the chosen epoch.
        every: epochs between two evaluations. The last epoch is always evaluated.
        report: splits that are evaluated once, with the chosen weights. Those of other data sets
            are named as `benchmark.runs.splits` says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str = "val"
    metric: str
    every: int = Field(default=1, ge=1)
    report: tuple[str, ...] = ("val", "testA", "testB")


class RunSpec(BaseModel):
    """One run: everything that changes its numbers, and nothing else (no path, host, device or number of workers).

    Attributes:
        method, variant, dataset, split_by, seed: what is trained on what.
        strategy, recipe, network, selection: in full, so that no default hides behind a name.
        data_sha256: digest of annotations and images. tokenizer: identity of the vocabulary.
        weights: digest of the starting weights, or `scratch`.
        method_revision: of the method's code for this variant and precision.
        report_sha256: data set and way of splitting -> digest of its data, for reported splits of other sets. The key holds it
            only where there are such.
    """

    model_config = WIRE

    method: str
    variant: str
    dataset: str
    split_by: str
    seed: int
    strategy: Annotated[Strategy, PlainSerializer(Strategy.key_fields)]
    recipe: SerializeAsAny[Recipe]
    network: SerializeAsAny[Config]
    selection: Selection
    data_sha256: str
    tokenizer: str = Field(alias="tokeniser")
    weights: str
    method_revision: int
    report_sha256: dict[str, str] = Field(default={}, exclude_if=lambda digests: not digests)

    @model_validator(mode="before")
    @classmethod
    def _typed_by_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Read `recipe` and `network` as the method's own types, and `strategy` as its kind."""
        definition = methods.definition(values["method"])
        typed = dict(values)
        if isinstance(typed["recipe"], dict):
            typed["recipe"] = definition.recipe_type.model_validate(typed["recipe"])
        if isinstance(typed["network"], dict):
            typed["network"] = definition.config_type.model_validate(typed["network"])
        if isinstance(typed["strategy"], dict):
            typed["strategy"] = strategies.read(typed["strategy"])
        return typed

    @property
    def key(self) -> str:
        """The run's name: readable parts and a digest of the whole spec."""
        digest = self._digest(exclude=set())
        return f"{self.method}-{self.variant}-{self.strategy.name}-{self.dataset}-s{self.seed}-{digest}"

    def without_seed(self) -> str:
        """Return a digest that runs share which differ in their seed alone."""
        return self._digest(exclude={"seed"})

    def _digest(self, exclude: set[str]) -> str:
        content = json.dumps(self.model_dump(mode="json", exclude=exclude), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:10]
