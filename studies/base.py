"""The base class of both kinds of studies."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Study(BaseModel):
    """What grids and searches share.

    Attributes:
        description: one line.
        method: name of the method whose runs it is about.
        recipe: changes to the recipe of the variant.
        seeds: seeds of the runs.
        variants: variant -> other values of the study's fields, for networks of another size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    method: str
    recipe: dict[str, Any] = {}
    seeds: tuple[int, ...] = (0,)
    variants: dict[str, dict[str, Any]] = {}
