"""The conditions under which finished runs are asked again, and the presets that name a set of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from benchmark.base.errors import choose
from benchmark.base.files import read_model, read_yaml
from benchmark.data.refer import Ref, ReferDataset
from benchmark.robustness import corruptions, occlusion
from benchmark.robustness.corruptions import SEVERITIES
from benchmark.robustness.covered_words import CoveredWords
from benchmark.robustness.occlusion import Occlusion

PRESETS = Path(__file__).parent / "presets"


class Condition(Protocol):
    """What happens to an image, to a sentence, or to both; its text names it and its file of records."""

    def views(
        self, dataset: ReferDataset, refs: list[Ref], pixels: np.ndarray
    ) -> list[tuple[np.ndarray, list[Ref]]]:
        """Return what becomes of one image, uint8 (height, width, 3), and all its refs: pictures of the same size, each with the
        refs, and the sentences of them, that are asked about in it."""


def parse_condition(text: str) -> Condition:
    """Return the condition of a name: `fog-3`, `referent-30` or `words`. Raises UserError for any other."""
    if text == str(CoveredWords()):
        return CoveredWords()
    if text.rpartition("-")[0] in occlusion.TARGETS:
        return Occlusion.parse(text)
    return corruptions.Condition.parse(text)


class OcclusionGrid(BaseModel):
    """Every target at every share, in percent of its area."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: tuple[str, ...]
    percents: tuple[int, ...]


class RobustnessPreset(BaseModel):
    """A named set of conditions.

    Attributes:
        description: one line. matrix: the preset whose finished runs are asked, where no run is named.
        splits: of their data sets. corruptions: names of corruptions and of sets. severities: of 1 to 5.
        occlusion: what is covered, or nothing. words: whether the words are covered one by one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    matrix: str
    splits: tuple[str, ...] = Field(min_length=1)
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = SEVERITIES
    occlusion: OcclusionGrid | None = None
    words: bool = False

    def conditions(self) -> list[Condition]:
        """Return all conditions, each once. Raises UserError for a name or number that is not known."""
        found: list[Condition] = [
            corruptions.Condition(name, severity)
            for name in corruptions.resolve(self.corruptions)
            for severity in dict.fromkeys(self.severities)
        ]
        if self.occlusion:
            grid = self.occlusion
            found += [
                Occlusion(name, n)
                for name in dict.fromkeys(grid.targets)
                for n in dict.fromkeys(grid.percents)
            ]
        return [*found, *([CoveredWords()] if self.words else [])]


def robustness_presets() -> list[str]:
    """Return the shipped presets of conditions."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_robustness_preset(name: str) -> RobustnessPreset:
    """Return the preset called `name`, or the one in the YAML file `name`.

    Raises:
        UserError: there is none, or a field of it is wrong.
    """
    its_file = name.endswith((".yaml", ".yml"))
    path = (
        Path(name)
        if its_file
        else PRESETS / f"{choose(name, robustness_presets(), 'robustness preset')}.yaml"
    )
    return read_model(
        RobustnessPreset, read_yaml(path, "preset", robustness_presets()), f"preset {path.name}"
    )


def narrow_robustness(
    preset: RobustnessPreset,
    splits: Sequence[str] | None,
    names: Sequence[str] | None,
    severities: Sequence[int] | None,
    occluded: bool = True,
    words: bool = True,
) -> RobustnessPreset:
    """Return the preset with the axes that were given replaced (the corruptions `none`: without), and without occlusion or words
    where these are not wanted."""
    if names and list(names) == ["none"]:
        preset, names = preset.model_copy(update={"corruptions": ()}), None
    given = {"splits": splits, "corruptions": names, "severities": severities}
    changes: dict[str, object] = {axis: tuple(values) for axis, values in given.items() if values}
    if names and not severities:
        changes["severities"] = SEVERITIES  # the preset's go with its corruptions
    if not occluded:
        changes["occlusion"] = None
    return preset.model_copy(update={**changes, "words": preset.words and words})
