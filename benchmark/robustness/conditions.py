"""Conditions under which finished runs are evaluated again, as the robustness of a preset asks."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from benchmark.base.files import read_model
from benchmark.data.refer import ReferDataset
from benchmark.data.refs import Ref
from benchmark.robustness import corruptions, occlusion
from benchmark.robustness.corruptions import SEVERITIES
from benchmark.robustness.covered_words import CoveredWords
from benchmark.robustness.occlusion import Occlusion
from benchmark.runs.preset import Preset


class Condition(Protocol):
    """What happens to an image, to a sentence, or to both.

    Its text names it, and also its file of records.
    """

    def views(
        self, dataset: ReferDataset, refs: list[Ref], pixels: np.ndarray
    ) -> list[tuple[np.ndarray, list[Ref]]]:
        """Return what becomes of one image and its refs.

        Args:
            dataset: holds the masks.
            refs: all refs of the image.
            pixels: RGB, uint8 (height, width, 3).

        Returns:
            Pictures of the same size, each with the refs that are evaluated on it. The refs hold
            the sentences that are evaluated.
        """


def parse_condition(text: str) -> Condition:
    """Return the condition of a name such as `fog-3`, `referent-30` or `words`.

    Raises:
        UserError: the name is not known.
    """
    if text == str(CoveredWords()):
        return CoveredWords()
    if text.rpartition("-")[0] in occlusion.TARGETS:
        return Occlusion.parse(text)
    return corruptions.Condition.parse(text)


class OcclusionGrid(BaseModel):
    """Occlusions of every target at every share.

    Attributes:
        targets: what is covered (see `occlusion`).
        percents: shares of a target's area, each in 0..100.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: tuple[str, ...] = Field(min_length=1)
    percents: tuple[int, ...] = Field(min_length=1)


class ConditionGrid(BaseModel):
    """Conditions on some splits, as `robustness` of a preset describes them.

    Attributes:
        splits: splits of the runs' data sets.
        corruptions: names of corruptions and of sets.
        severities: each in 1..5.
        occlusion: what is covered. None covers nothing.
        words: whether the words of the sentences are covered one by one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    splits: tuple[str, ...] = Field(min_length=1)
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = Field(default=SEVERITIES, min_length=1)
    occlusion: OcclusionGrid | None = None
    words: bool = False

    def conditions(self) -> list[Condition]:
        """Return all conditions, each once.

        Raises:
            UserError: a name or number is not known.
        """
        conditions: list[Condition] = [
            corruptions.Condition(name, severity)
            for name in corruptions.resolve(self.corruptions)
            for severity in dict.fromkeys(self.severities)
        ]
        if self.occlusion:
            conditions += [
                Occlusion(target, percent)
                for target in dict.fromkeys(self.occlusion.targets)
                for percent in dict.fromkeys(self.occlusion.percents)
            ]
        if self.words:
            conditions.append(CoveredWords())
        return conditions


def conditions_of(preset: Preset, name: str) -> ConditionGrid:
    """Return the conditions that a preset asks for.

    Args:
        preset: the preset.
        name: what error messages call it.

    Raises:
        UserError: a field of its `robustness` is wrong.
    """
    return read_model(ConditionGrid, preset.robustness, f"preset {name}: robustness")


def narrow_conditions(
    grid: ConditionGrid,
    splits: Sequence[str] | None,
    names: Sequence[str] | None,
    severities: Sequence[int] | None,
    occluded: bool = True,
    words: bool = True,
) -> ConditionGrid:
    """Return conditions with some of their axes replaced.

    Args:
        grid: is not changed.
        splits: replace its splits, if given.
        names: replace its corruptions, if given. The name `none` leaves it without corruptions.
        severities: replace its severities, if given.
        occluded: whether its occlusions are kept.
        words: whether its covered words are kept.
    """
    if names and list(names) == ["none"]:
        grid = grid.model_copy(update={"corruptions": ()})
        names = None
    given = {"splits": splits, "corruptions": names, "severities": severities}
    changes: dict[str, object] = {axis: tuple(values) for axis, values in given.items() if values}
    if names and not severities:
        # The severities of the grid were chosen for its own corruptions.
        changes["severities"] = SEVERITIES
    if not occluded:
        changes["occlusion"] = None
    return grid.model_copy(update={**changes, "words": grid.words and words})
