"""The scientific configuration of one run, and the key that names it."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SerializeAsAny, model_validator

import methods
from benchmark import strategies
from benchmark.base.names import check_name
from benchmark.strategies.strategy import Strategy
from methods.config import WIRE, Config, Definition, Recipe


class Selection(BaseModel):
    """The rule that picks the epoch to report, and the splits to report it on.

    Attributes:
        split: the split whose numbers choose the epoch. Every expression of it counts.
        metric: the name of the metric that is highest at the chosen epoch.
        every: epochs between two evaluations, at least 1. The last epoch is always evaluated.
        report: splits that are evaluated once, with the chosen weights. Those of other data sets
            are named as `benchmark.runs.splits` says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str = "val"
    metric: str
    every: int = Field(default=1, ge=1)
    report: tuple[str, ...] = ("val", "testA", "testB")

    @model_validator(mode="after")
    def _names_files(self) -> "Selection":
        # Another set's split is named by three such parts.
        for part in ".".join((self.split, *self.report)).split("."):
            check_name(part, "a split of a run")
        return self


class RunSpec(BaseModel):
    """Everything that changes the numbers of one run, and nothing else.

    It holds no path, host, device or number of workers. The strategy, recipe and network are
    written in full, so that no default hides behind a name.

    Attributes:
        method: the registered name of the method.
        variant: the size of the method, such as `tiny`.
        dataset: the name of the data set that the run is trained on.
        split_by: the way of splitting this data set, such as `unc`.
        seed: the seed of every random number of the run.
        strategy: the training strategy with its settings.
        recipe: how the method is trained.
        network: the configuration of the network.
        selection: the rule that picks the epoch to report.
        data_sha256: the digest of annotations and images.
        tokenizer: the identity of the vocabulary.
        weights: the digest of the starting weights, or `scratch`.
        method_revision: the revision of the method's code for this variant and precision.
        report_sha256: "data set:way of splitting" -> digest of its data, for each other data set
            whose splits are reported. Where there is none, the key does not hold the field.
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

    @model_validator(mode="after")
    def _names_folders(self) -> "RunSpec":
        check_name(self.dataset, "the data set of a run")
        check_name(self.split_by, f"the way of splitting {self.dataset}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _typed_by_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Read `recipe` and `network` as the method's own types, and `strategy` as its kind."""
        if not isinstance(values, dict) or not isinstance(values.get("method"), str):
            return values  # which is refused with the name of the field
        definition = methods.definition(values["method"])
        readers = {
            "recipe": definition.recipe_type.model_validate,
            "network": definition.config_type.model_validate,
            "strategy": strategies.read,
        }
        typed = {
            name: read(values[name])
            for name, read in readers.items()
            if isinstance(values.get(name), dict)
        }
        return values | typed

    @property
    def has_network(self) -> bool:
        """Whether its finished run has weights that can be evaluated again."""
        return True

    @property
    def definition(self) -> Definition:
        """What the registry knows of its method."""
        return methods.definition(self.method)

    def comparable(self) -> dict[str, Any]:
        """Return all of it within which strategies and seeds are compared."""
        return self.model_dump(mode="json", exclude={"seed", "strategy"})

    @property
    def key(self) -> str:
        """The run's name, made of readable parts and a digest of the whole spec."""
        parts = (self.method, self.variant, self.strategy.name, self.dataset, f"s{self.seed}")
        return "-".join((*parts, self._digest(exclude=set())))

    def without_seed(self) -> str:
        """Return a digest that is the same for runs which differ in their seed alone."""
        return self._digest(exclude={"seed"})

    def _digest(self, exclude: set[str]) -> str:
        content = json.dumps(self.model_dump(mode="json", exclude=exclude), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:10]
