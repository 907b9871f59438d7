"""What both kinds of studies have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Study(BaseModel):
    """What both kinds of studies share.

    Attributes:
        description: one line. method: whose runs it is about. recipe: changes to the variant's recipe.
        seeds: of the runs. variants: variant -> other values of the study's fields, where a network's size asks for such.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    method: str
    recipe: dict[str, Any] = {}
    seeds: tuple[int, ...] = (0,)
    variants: dict[str, dict[str, Any]] = {}
