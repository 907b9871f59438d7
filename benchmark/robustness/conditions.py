"""Conditions under which finished runs are evaluated again, and presets that name sets of them."""

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

    targets: tuple[str, ...]
    percents: tuple[int, ...]


class RobustnessPreset(BaseModel):
    """A named set of conditions.

    Attributes:
        description: one line.
        matrix: the preset whose finished runs are evaluated if no run is named.
        splits: splits of the runs' data sets.
        corruptions: names of corruptions and of sets.
        severities: each in 1..5.
        occlusion: what is covered. None covers nothing.
        words: whether the words of the sentences are covered one by one.
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


def robustness_presets() -> list[str]:
    """Return the names of the shipped presets of conditions."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_robustness_preset(name: str) -> RobustnessPreset:
    """Return the preset called `name`, or the one in the YAML file `name`.

    Raises:
        UserError: there is none, or a field of it is wrong.
    """
    shipped = robustness_presets()
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    else:
        path = PRESETS / f"{choose(name, shipped, 'robustness preset')}.yaml"
    values = read_yaml(path, "preset", shipped)
    return read_model(RobustnessPreset, values, f"preset {path.name}")


def narrow_robustness(
    preset: RobustnessPreset,
    splits: Sequence[str] | None,
    names: Sequence[str] | None,
    severities: Sequence[int] | None,
    occluded: bool = True,
    words: bool = True,
) -> RobustnessPreset:
    """Return the preset with some of its axes replaced.

    Args:
        preset: is not changed.
        splits: replace the preset's splits, if given.
        names: replace its corruptions, if given. The name `none` leaves it without corruptions.
        severities: replace its severities, if given.
        occluded: whether its occlusions are kept.
        words: whether its covered words are kept.
    """
    if names and list(names) == ["none"]:
        preset = preset.model_copy(update={"corruptions": ()})
        names = None
    given = {"splits": splits, "corruptions": names, "severities": severities}
    changes: dict[str, object] = {axis: tuple(values) for axis, values in given.items() if values}
    if names and not severities:
        # The preset chose its severities for its own corruptions.
        changes["severities"] = SEVERITIES
    if not occluded:
        changes["occlusion"] = None
    return preset.model_copy(update={**changes, "words": preset.words and words})
