"""The scientific configuration of one run, and the key that names it."""

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

import methods
from benchmark.strategies.strategy import Strategy
from methods.config import WIRE, Config, Recipe


class Selection(BaseModel):
    """How the best epoch is chosen and where it is reported.

    Attributes:
        split: whose oIoU chooses the epoch; every expression of it counts.
        every: epochs between evaluations of it; the last epoch is always evaluated.
        report: splits evaluated once, with the chosen weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str = "val"
    metric: Literal["oiou"] = "oiou"
    every: int = Field(default=1, ge=1)
    report: tuple[str, ...] = ("val", "testA", "testB")


class RunSpec(BaseModel):
    """One run: everything that changes its numbers, and nothing else (no path, host, device or worker count).

    Attributes:
        method, variant, dataset, split_by, seed: what is trained on what.
        strategy, recipe, network, selection: in full, so that no default hides behind a name.
        data_sha256: digest of annotations and images. tokenizer: identity of the vocabulary.
        weights: digest of the starting weights, or `scratch`.
        method_revision: of the method's code.
    """

    model_config = WIRE

    method: str
    variant: str
    dataset: str
    split_by: str
    seed: int
    strategy: Strategy
    recipe: SerializeAsAny[Recipe]
    network: SerializeAsAny[Config]
    selection: Selection
    data_sha256: str
    tokenizer: str = Field(alias="tokeniser")
    weights: str
    method_revision: int

    @model_validator(mode="before")
    @classmethod
    def _typed_by_method(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Read `recipe` and `network` as the method's own types."""
        method = methods.get(values["method"])
        config_type = type(next(iter(method.variants.values())))
        typed = dict(values)
        if isinstance(typed["recipe"], dict):
            typed["recipe"] = method.recipe_type.model_validate(typed["recipe"])
        if isinstance(typed["network"], dict):
            typed["network"] = config_type.model_validate(typed["network"])
        return typed

    @property
    def key(self) -> str:
        """Return the run's name: readable parts and a digest of the whole spec."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:10]
        return f"{self.method}-{self.variant}-{self.strategy.name}-{self.dataset}-s{self.seed}-{digest}"

    def without_seed(self) -> str:
        """Return a digest that runs of one group, which differ in their seed alone, share."""
        content = json.dumps(self.model_dump(mode="json", exclude={"seed"}), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:10]
