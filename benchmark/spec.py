"""The scientific configuration of one run, and the key that names it."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

import methods
from benchmark.errors import UserError
from benchmark.strategies import Strategy
from methods.protocol import Config, Recipe


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
        data_sha256: digest of annotations and images. tokeniser: identity of the vocabulary.
        weights: digest of the starting weights, or `scratch`.
        method_revision: of the method's code.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    tokeniser: str
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


def read_yaml(path: Path, what: str, shipped: Iterable[str]) -> Any:
    """Return the content of a user's or shipped YAML file.

    Raises:
        UserError: there is none (`shipped` are listed), or it is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"there is no {what} file {path}; shipped ones are {', '.join(shipped)}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{what} {path} is no valid YAML ({str(error).splitlines()[0]}); mend it.") from None


def read_model(model: type[BaseModel], values: Any, where: str) -> Any:
    """Return `values` as `model`.

    Raises:
        UserError: they do not fit; the message names the first wrong field and what was expected.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        known = f"; fields are {', '.join(model.model_fields)}" if first["type"] == "extra_forbidden" else ""
        raise UserError(f"{where}: {field}: {first['msg'].lower()}{known}.") from None
