"""What is known of masks that were made elsewhere, and the key that names them.

Such masks are scored into a run directory of the kind `predictions`. It has no weights, metrics or
resume point. Its spec offers what tables, plans and stores ask of the spec of a trained run.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

import methods
from benchmark import strategies
from benchmark.base.errors import UserError, choose
from benchmark.base.names import check_name
from benchmark.data import datasets
from benchmark.runs.spec import RunSpec, Selection
from benchmark.strategies.strategy import Described
from methods.config import Definition

KIND = "predictions"


class MadeElsewhere(Described):
    """Stands where nobody says by which strategy a network was trained."""

    @property
    def heading(self) -> str:
        """What tables call it."""
        return "made elsewhere"

    def describe(self) -> list[str]:
        """Return what tables say of it."""
        return ["the masks come from a network that the suite did not train"]


MADE_ELSEWHERE = MadeElsewhere(name="made-elsewhere")


class StandsFor(BaseModel):
    """The row of tables and claims that predictions stand for.

    Attributes:
        method: the registered name of the method.
        variant: the size of the method.
        strategy: the registered name of the strategy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    variant: str
    strategy: str

    @classmethod
    def parse(cls, text: str) -> StandsFor:
        """Return the row of a text such as `caris/paper/baseline`.

        Raises:
            UserError: it has another form, or a name is not known. The message lists the nearest.
        """
        parts = text.split("/")
        if len(parts) != 3:
            raise UserError(
                f"'{text}' names no row: write METHOD/VARIANT/STRATEGY, such as"
                f" lavt/paper/{strategies.reference().name}."
            )
        definition = methods.definition(parts[0])
        choose(parts[1], definition.variants, f"variant of {parts[0]}")
        strategies.get(parts[2])
        return cls(method=parts[0], variant=parts[1], strategy=parts[2])

    def __str__(self) -> str:
        return f"{self.method}/{self.variant}/{self.strategy}"


class ScoredSplit(BaseModel):
    """What was scored on a split.

    Attributes:
        masks_sha256: the digest of the masks, whatever file they came in.
        expressions: number of expressions of the split.
        missing: number of expressions without a mask, which counts as empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    masks_sha256: str
    expressions: int = Field(ge=1)
    missing: int = Field(default=0, ge=0)


class PredictionsSpec(BaseModel):
    """What is known of masks that were made elsewhere.

    The key does not hold the splits, which may be scored one after the other. What was scored once
    is not replaced (see `evaluation.scored_runs`), so a key never stands for two sets of masks.

    Attributes:
        kind: tells it from the spec of a trained run.
        name: what tables call the predictions.
        dataset: the name of the data set.
        split_by: the way of splitting it, such as `unc`.
        seed: tells apart predictions of one network that was trained several times.
        stands_for: the row that they stand for. With None, they have a row of their own.
        weights_sha256: the digest of the checkpoint file that the suite itself evaluated, or None.
        data_sha256: the digest of annotations and images.
        splits: split -> what was scored on it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    # What tables ask of every spec, and nothing is known of here.
    tokenizer: ClassVar[str] = ""
    weights: ClassVar[str] = ""
    report_sha256: ClassVar[dict[str, str]] = {}

    kind: Literal["predictions"] = KIND
    name: str
    dataset: str
    split_by: str
    seed: int = Field(default=0, ge=0)
    stands_for: StandsFor | None = Field(default=None, exclude_if=lambda its: its is None)
    weights_sha256: str | None = Field(default=None, exclude_if=lambda its: its is None)
    data_sha256: str
    splits: dict[str, ScoredSplit] = {}

    @model_validator(mode="after")
    def _names_folders(self) -> PredictionsSpec:
        for name, what in [
            (self.name, "a set of predictions"),
            (self.dataset, "the data set of predictions"),
            (self.split_by, f"the way of splitting {self.dataset}"),
            *((split, "a split of predictions") for split in self.splits),
        ]:
            check_name(name, what)
        return self

    @property
    def key(self) -> str:
        """The name of the run directory, made of readable parts and a digest."""
        row = self.stands_for
        names = (row.method, row.variant, row.strategy) if row else ()
        content = json.dumps(
            self.model_dump(mode="json", exclude={"splits"}), sort_keys=True
        ).encode()
        digest = hashlib.sha256(content).hexdigest()[:10]
        return "-".join((*names, self.name, self.dataset, f"s{self.seed}", digest))

    @property
    def method(self) -> str:
        """What tables call the network: that of its row, or its own name."""
        return self.stands_for.method if self.stands_for else self.name

    @property
    def variant(self) -> str:
        """The size of the network, or "" where nobody says it."""
        return self.stands_for.variant if self.stands_for else ""

    @property
    def strategy(self) -> Described:
        """The strategy of its row, with default settings, or `MADE_ELSEWHERE`."""
        return strategies.get(self.stands_for.strategy) if self.stands_for else MADE_ELSEWHERE

    @property
    def definition(self) -> Definition | None:
        """What the registry knows of the network, or None where it knows nothing."""
        return methods.definition(self.stands_for.method) if self.stands_for else None

    @property
    def selection(self) -> Selection:
        """The scored splits. Whoever made the masks has chosen a network on val, as is usual."""
        return Selection(split=datasets.SELECT, metric="", report=tuple(self.splits))

    @property
    def has_network(self) -> bool:
        """Whether the suite made the masks from a checkpoint file, which it can do again."""
        return self.weights_sha256 is not None

    def comparable(self) -> dict[str, Any]:
        """Return all of it within which strategies and seeds are compared.

        Predictions are compared with each other, and never paired with runs of the suite by their
        seed, which would be another one.
        """
        varying = {"seed": True, "splits": True, "weights_sha256": True}
        if self.stands_for:
            varying |= {"name": True, "stands_for": {"strategy"}}
        return self.model_dump(mode="json", exclude=varying)

    def with_split(self, split: str, scored: ScoredSplit) -> PredictionsSpec:
        """Return it with one more split."""
        return self.model_copy(update={"splits": {**self.splits, split: scored}})


AnySpec = RunSpec | PredictionsSpec
