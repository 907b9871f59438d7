"""TODO."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from benchmark.base.errors import choose
from benchmark.base.files import read_model, read_yaml
from benchmark.runs.spec import Selection

PRESETS = Path(__file__).parent / "presets"


class RefShapes(BaseModel):
    """Size and seed of the embedded data sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: int = Field(ge=1)
    val: int = Field(ge=1)
    testA: int = Field(ge=1)
    testB: int = Field(ge=1)
    seed: int = 0


class Preset(BaseModel):
    """A named matrix.

    Attributes:
        description: one line; the file's head says what its numbers mean and what they do not.
        methods, strategies, datasets, variants, seeds: the matrix is their product.
            A data set may say how it is split: `refcocog:google`. data: default folder of the data sets.
        refshapes: how large the embedded sets are written, where `datasets` names one.
        recipes: method -> changes to its variant's recipe. strategy: changes to every strategy.
        selection: how the epoch is chosen; reported are all splits of a data set but train.
        execution, jobs: where it runs, and how many runs at a time; no part of any key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    methods: tuple[str, ...]
    strategies: tuple[str, ...]
    datasets: tuple[str, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    data: Path
    refshapes: RefShapes | None = None
    recipes: dict[str, dict[str, Any]] = {}
    strategy: dict[str, Any] = {}
    selection: Selection = Selection()
    execution: dict[str, Any] = {}
    jobs: int = Field(default=1, ge=1)


def preset_names() -> list[str]:
    """Return the shipped presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_preset(name: str) -> Preset:
    """Return the preset called `name`, or the one in the YAML file `name`.

    Raises:
        UserError: there is none, or a field of it is wrong.
    """
    path = (
        Path(name) if name.endswith((".yaml", ".yml")) else PRESETS / f"{choose(name, preset_names(), 'preset')}.yaml"
    )
    return read_model(Preset, read_yaml(path, "preset", preset_names()), f"preset {path.name}")


def narrow(preset: Preset, **choices: Sequence[Any] | None) -> Preset:
    """Return the preset with the axes that were given replaced; names are validated by `resolve`."""
    return preset.model_copy(update={axis: tuple(values) for axis, values in choices.items() if values})
