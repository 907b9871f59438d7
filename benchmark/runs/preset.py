"""A preset is a YAML file that names a set of runs as the product of its axes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmark.base.errors import UserError, choose
from benchmark.base.files import parse_yaml, read_model, read_text, read_yaml
from benchmark.runs.spec import Selection

PRESETS = Path(__file__).parent / "presets"
AXES = ("methods", "strategies", "datasets", "variants", "seeds")
Supervision = Literal["full", "weak"]


class RefShapes(BaseModel):
    """The size and the seed of the embedded data sets.

    Attributes:
        train: the number of images in the split `train`, at least 1.
        val: the number of images in `val`, at least 1.
        testA: the number of images in `testA`, at least 1.
        testB: the number of images in `testB`, at least 1.
        seed: the seed that the scenes are drawn with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: int = Field(ge=1)
    val: int = Field(ge=1)
    testA: int = Field(ge=1)
    testB: int = Field(ge=1)
    seed: int = 0

    def sizes(self) -> dict[str, int]:
        """Return the number of images of each split, by name."""
        return self.model_dump(exclude={"seed"})


class Preset(BaseModel):
    """A named set of runs.

    Attributes:
        description: one line. The file's head says what its numbers mean and what they do not.
        methods: the first axis, as registered names.
        strategies: the second axis, as registered names.
        datasets: the third axis. A data set may say how it is split: `refcocog:google`.
        variants: the fourth axis.
        seeds: the fifth axis.
        leave_out: method -> strategies that are not planned of it.
        rivals: pairs of strategies that reports compare with each other, too, the second as the
            reference of the first.
        data: the folder of the data sets where a command names none.
        refshapes: how large the embedded sets are written. None leaves them unwritten.
        report: splits of other data sets on which runs are reported, too, such as `refcoco:testA`.
        recipes: method -> changes to its variant's recipe.
        strategy: changes to the settings of every strategy.
        selection: rule that picks the epoch to report. The run is then evaluated on every split
            except train.
        primary: supervision -> the one metric that is judged.
        margin: the smallest relevant difference of the primary metric, in points, above 0.
        robustness: the conditions that finished runs are evaluated under, as
            `robustness.conditions` reads them. It is no part of any key.
        execution: how runs are executed. It is no part of any key.
        jobs: how many runs are executed at a time, at least 1. It is no part of any key, either.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    methods: tuple[str, ...] = Field(min_length=1)
    strategies: tuple[str, ...] = Field(min_length=1)
    datasets: tuple[str, ...] = Field(min_length=1)
    variants: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(strict=True, ge=0)], ...] = Field(min_length=1)
    leave_out: dict[str, tuple[str, ...]] = {}
    rivals: tuple[tuple[str, str], ...] = ()
    data: Path
    refshapes: RefShapes | None = None
    report: tuple[str, ...] = ()
    recipes: dict[str, dict[str, Any]] = {}
    strategy: dict[str, Any] = {}
    selection: Selection
    primary: dict[Supervision, str]
    margin: float = Field(gt=0, allow_inf_nan=False)
    robustness: dict[str, Any] = {}
    execution: dict[str, Any] = {}
    jobs: int = Field(default=1, ge=1, strict=True)

    @model_validator(mode="after")
    def _plans_each_once(self) -> "Preset":
        for axis, values in self.axes().items():
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"{axis}: {value} stands there more than once")
        return self

    def axes(self) -> dict[str, list[Any]]:
        """Return the values of each axis, by the name of the axis."""
        return {name: list(getattr(self, name)) for name in AXES}


def defaults() -> dict[str, Any]:
    """Return the values of `defaults.yaml`, which a preset need not repeat."""
    return read_yaml(Path(__file__).parent / "defaults.yaml", "defaults", ())


def preset_names() -> list[str]:
    """Return the names of the shipped presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_text(name: str) -> str:
    """Return the text of the preset called `name`, or of the YAML file `name`.

    Raises:
        UserError: there is no such preset, or its file cannot be read.
    """
    is_file = name.endswith((".yaml", ".yml"))
    path = Path(name) if is_file else PRESETS / f"{choose(name, preset_names(), 'preset')}.yaml"
    return read_text(path, "preset", preset_names())


def parse_preset(text: str, name: str) -> Preset:
    """Return the preset that a text describes.

    Args:
        text: the YAML, as `preset_text` returns it.
        name: what error messages call the preset.

    Raises:
        UserError: the text is no YAML, or one of its fields is wrong.
    """
    where = f"preset {Path(name).name}"
    return read_model(Preset, _completed(parse_yaml(text, where)), where)


def read_preset(name: str) -> Preset:
    """Return the preset called `name`, or the one in the YAML file `name`.

    Raises:
        UserError: there is no such preset, its file cannot be read, or a field of it is wrong.
    """
    return parse_preset(preset_text(name), name)


def _completed(values: Any) -> Any:
    """Return a preset's values with those of `defaults` that it leaves out."""
    if not isinstance(values, dict):
        return values
    completed = dict(values)
    for name, default in defaults().items():
        own = completed.get(name, {})
        # A value that should be a mapping and is none stays as it is, so that the model rejects it.
        both = isinstance(default, dict) and isinstance(own, dict)
        completed[name] = {**default, **own} if both else completed.get(name, default)
    return completed


def narrow(preset: Preset, **choices: Sequence[Any] | None) -> Preset:
    """Return the preset with fewer values on the axes that are given.

    Args:
        preset: the preset that plans the runs.
        choices: axis -> the values that remain. None or an empty sequence leaves an axis whole.

    Raises:
        UserError: a value is not on its axis, so the preset does not plan it.
    """
    update = {}
    for axis, values in choices.items():
        if values:
            planned = getattr(preset, axis)
            for value in values:
                if value not in planned:
                    listed = ", ".join(map(str, planned))
                    raise UserError(
                        f"the preset plans {axis} {listed} and no {value}: give the runs a plan of"
                        " their own with --name NAME, or add it to a preset file of your own."
                    )
            update[axis] = tuple(values)
    return preset.model_copy(update=update)


def replaced(preset: Preset, **choices: Sequence[Any] | None) -> Preset:
    """Return the preset with other values on the axes that are given, which makes it another plan.

    Args:
        preset: the preset to start from.
        choices: axis -> its new values. None or an empty sequence leaves an axis as it is.
    """
    return preset.model_copy(
        update={axis: tuple(values) for axis, values in choices.items() if values}
    )
