"""A search names what Optuna may choose from.

Its choices become settings of a strategy and changes to a recipe.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmark import strategies
from benchmark.base.errors import UserError, choose
from benchmark.evaluation import metrics
from benchmark.robustness.corruptions import Condition, resolve
from studies.base import Study

CORRUPTED = "corrupted_"
"""Begins the name of an objective that is a mean over corrupted images."""

SHARES = ("mask_share", "random_share")
"""Search parameters that stand for `text_mask_shares`.

The first is the share that becomes [MASK]. The second is the random words' share of the rest.
"""


class Range(BaseModel):
    """The values of one parameter that a search may choose from: a range of numbers, or choices.

    Attributes:
        low: lowest number.
        high: highest number.
        step: distance between the numbers. None allows all of them.
        log: whether numbers are drawn evenly in the logarithm.
        choices: the values, in place of numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Range":
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("a parameter has either choices, or low and high")
        if self.choices is None and self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    def contains(self, value: Any) -> bool:
        """Return whether a value may be chosen."""
        return value in self.choices if self.choices is not None else self.low <= value <= self.high

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that a spec is tried with before a search starts.

        They are all choices, or the lowest and the highest number.
        """
        return self.choices if self.choices is not None else (self.low, self.high)


class Search(Study):
    """A search by Optuna.

    Attributes:
        kind: tells a search from a grid in YAML.
        strategy: name of the strategy.
        space: parameter -> its values. A parameter is a setting of the strategy, a field of the
            recipe, or one of `SHARES`.
        paper: the published setting, which the first trial tries. The second trial has
            distill_weight 0, which is the baseline.
        trials: number of trials that are to be completed or pruned.
        seed: of the sampler.
        sampler: `tpe` or `gp`.
        pruner: `hyperband` or `none`.
        objectives: one or two that are maximized on the split that chooses the epoch: a judged
            metric, or its mean over corrupted images (`corrupted_` and the metric). Of two,
            nothing is pruned. Where none is given, it is the metric that chooses the epoch.
        corruptions: of an objective over corrupted images.
        severities: of these corruptions, 1 to 5.
    """

    kind: Literal["search"] = "search"
    strategy: str
    space: dict[str, Range] = Field(min_length=1)
    paper: dict[str, Any]
    trials: int = Field(ge=1)
    seed: int = 0
    sampler: Literal["tpe", "gp"] = "tpe"
    pruner: Literal["hyperband", "none"] = "hyperband"
    objectives: tuple[str, ...] = Field(default=(), max_length=2)
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = ()

    def conditions(self) -> list[Condition]:
        """Return the conditions of an objective over corrupted images.

        Raises:
            UserError: a name or severity is not known.
        """
        return [
            Condition(name, severity)
            for name in resolve(self.corruptions)
            for severity in self.severities
        ]

    def judged(self) -> list[str]:
        """Return the metrics of the objectives, on images as they are or corrupted."""
        return [name.removeprefix(CORRUPTED) for name in self.objectives]

    def check(self) -> None:
        """Check that all names are known.

        Raises:
            UserError: an objective may not be judged, a corruption or severity is not known, or an
                objective over corrupted images has none.
        """
        metrics.check_judged(self.judged())
        over_corrupted = [name for name in self.objectives if name.startswith(CORRUPTED)]
        if not self.conditions() and over_corrupted:
            raise UserError(
                f"the objective {over_corrupted[0]} is a mean over corrupted images: give the study"
                " corruptions and severities."
            )

    @model_validator(mode="after")
    def _paper_is_in_the_space(self) -> "Search":
        if self.paper.keys() != self.space.keys():
            raise ValueError(
                "the paper's setting needs a value for every parameter of the space and for no"
                " other"
            )
        if outside := [
            name for name, value in self.paper.items() if not self.space[name].contains(value)
        ]:
            raise ValueError(f"the paper's setting lies outside the space in {', '.join(outside)}")
        weight = self.space.get("distill_weight")
        if weight is None or not weight.contains(0):
            raise ValueError(
                "distill_weight must be searched from 0 on: that is the baseline, one of the trials"
            )
        return self


def split_parameters(
    recipe_type: type, parameters: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return search parameters as settings of the strategy and changes to the recipe.

    Args:
        recipe_type: class of the recipe.
        parameters: name -> value.

    Raises:
        UserError: a name is neither. The message lists the nearest valid ones.
    """
    valid = {*strategies.settings(), *recipe_type.model_fields, *SHARES} - {"text_mask_shares"}
    settings, recipe = {}, {}
    for name, value in parameters.items():
        choose(name, valid, "search parameter")
        (recipe if name in recipe_type.model_fields else settings)[name] = value
    if set(SHARES) & settings.keys():
        mask, random = (
            settings.pop(name, default) for name, default in zip(SHARES, (0.8, 0.5), strict=True)
        )
        settings["text_mask_shares"] = (mask, (1 - mask) * random, (1 - mask) * (1 - random))
    return settings, recipe
