"""What a study is: a YAML file that names a base spec and either a grid of rows (an ablation of the paper) or a search space."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

import methods
from benchmark import groups, matrix
from benchmark.data.corruptions import Condition, resolve
from benchmark.errors import UserError, choose
from benchmark.rundir import write_aside
from benchmark.spec import RunSpec, read_model, read_yaml
from benchmark.strategies import SETTINGS
from benchmark.training import Execution

SHIPPED = Path(__file__).parent
SHARES = ("mask_share", "random_share")
"""Search parameters that stand for `text_mask_shares`: the share that becomes [MASK], and the random words' share of the rest."""


class Row(BaseModel):
    """One line of a grid.

    Attributes:
        label: what tables call it. published: its `condition` in reports/published.csv, where the paper has it; `system` the
            system of that row, where it is not the grid's.
        strategy: one of `benchmark.strategies`. settings, recipe: changes to it and to the recipe.
        epochs: length of the training relative to the recipe's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    published: str | None = None
    system: str | None = None
    strategy: str = "maskris"
    settings: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    epochs: float = Field(default=1, gt=0)


class Range(BaseModel):
    """What a search may choose from: numbers from `low` to `high` (in steps, or evenly in the logarithm), or `choices`."""

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
        """What a spec is tried with before a search starts: every choice, or the lowest and highest number."""
        return self.choices if self.choices is not None else (self.low, self.high)


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


class Grid(Study):
    """An ablation: every row is trained with every seed and compared with the row `reference`.

    Attributes:
        place, system: table or figure of the paper, and whose numbers in it are meant; both as in reports/published.csv.
        note: what a reader of the table must know.
        metrics: what the paper's table shows. curves: draw the training losses (Fig. B). hours: show what training cost.
    """

    kind: Literal["grid"] = "grid"
    place: str
    system: str = "CARIS+MaskRIS"
    note: str = ""
    rows: tuple[Row, ...] = Field(min_length=2)
    reference: str
    metrics: tuple[str, ...] = ("oiou",)
    curves: bool = False
    hours: bool = False

    @model_validator(mode="after")
    def _labels(self) -> "Grid":
        labels = [row.label for row in self.rows]
        if len(set(labels)) < len(labels) or self.reference not in labels:
            raise ValueError("rows need labels of their own, one of which is the reference")
        return self


class Search(Study):
    """A search by Optuna.

    Attributes:
        space: parameter (a setting of the strategy, a field of the recipe, or one of `SHARES`) -> what it may be.
        paper: the published setting, tried first. The second trial has distill_weight 0, which is the baseline.
        trials: how many are to be completed or pruned. seed: of the sampler.
        sampler: `tpe` or `gp`. pruner: `hyperband` or `none`.
        objectives: what is maximised on val: `oiou`, and on demand `corrupted_oiou` (then nothing is pruned).
        corruptions, severities: of the second objective.
    """

    kind: Literal["search"] = "search"
    strategy: str = "maskris"
    space: dict[str, Range] = Field(min_length=1)
    paper: dict[str, Any]
    trials: int = Field(ge=1)
    seed: int = 0
    sampler: Literal["tpe", "gp"] = "tpe"
    pruner: Literal["hyperband", "none"] = "hyperband"
    objectives: tuple[Literal["oiou", "corrupted_oiou"], ...] = ("oiou",)
    corruptions: tuple[str, ...] = ("gaussian_noise", "motion_blur", "fog", "jpeg_compression")
    severities: tuple[int, ...] = (3,)

    def conditions(self) -> list[Condition]:
        """Return the second objective's corruptions; a UserError for a name or severity that is not known."""
        return [Condition(name, severity) for name in resolve(self.corruptions) for severity in self.severities]

    @model_validator(mode="after")
    def _paper_is_in_the_space(self) -> "Search":
        if self.paper.keys() != self.space.keys():
            raise ValueError("the paper's setting needs a value for every parameter of the space, and for no other")
        if outside := [name for name, value in self.paper.items() if not self.space[name].contains(value)]:
            raise ValueError(f"the paper's setting lies outside the space in {', '.join(outside)}")
        weight = self.space.get("distill_weight")
        if weight is None or not weight.contains(0):
            raise ValueError("distill_weight must be searched from 0 on: that is the baseline, one of the trials")
        return self


class Started(BaseModel):
    """A study under way: `runs/studies/<name>/study.yaml`.

    Attributes:
        name: of this study, under which Optuna, MLflow and the report know it. origin: the study file, preset: the preset.
        study: as it is run, the variant's values in place. bases: seed -> spec of the baseline, from which all specs are made.
        settings: the preset's changes to every strategy.
        data, images, execution, jobs: where the data lie and how runs are executed; no part of any key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    origin: str
    preset: str
    study: Grid | Search = Field(discriminator="kind")
    bases: dict[int, RunSpec]
    settings: dict[str, Any] = {}
    data: Path
    images: Path | None = None
    execution: dict[str, Any] = {}
    jobs: int = 1

    @property
    def place(self) -> matrix.Place:
        """Where the data lie."""
        return matrix.Place(self.data, self.images)

    @property
    def how(self) -> Execution:
        """How runs are executed."""
        return matrix.execution_of(self.execution)

    def row_specs(self, row: Row) -> list[RunSpec]:
        """Return the specs of a grid's row, one per seed; a setting that does not fit raises a UserError that names the row."""
        return [
            derive(b, row.strategy, self.settings | row.settings, row.recipe, row.epochs) for b in self.bases.values()
        ]

    def specs(self) -> list[RunSpec]:
        """Return all specs of a grid, each once."""
        found: dict[str, RunSpec] = {}
        for row in self.study.rows:
            try:
                found |= {spec.key: spec for spec in self.row_specs(row)}
            except UserError as error:
                raise UserError(f"study {self.name}, row '{row.label}': {error}") from None
        return list(found.values())

    def trial_spec(self, parameters: Mapping[str, Any]) -> RunSpec:
        """Return the spec of a search's trial. distill_weight 0 is the baseline: L_dist counts nothing, so one pass does."""
        (base,) = self.bases.values()
        settings, recipe = split_parameters(type(base.recipe), parameters)
        strategy = "baseline" if settings.get("distill_weight") == 0 else self.study.strategy
        return derive(base, strategy, self.settings | settings, recipe)


def split_parameters(recipe_type: type, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return search parameters as settings of the strategy and changes to the recipe.

    Raises:
        UserError: a name is neither (the nearest valid ones are listed).
    """
    valid = {*SETTINGS, *recipe_type.model_fields, *SHARES} - {"text_mask_shares"}
    settings, recipe = {}, {}
    for name, value in parameters.items():
        choose(name, valid, "search parameter")
        (recipe if name in recipe_type.model_fields else settings)[name] = value
    if set(SHARES) & settings.keys():
        mask, random = (settings.pop(name, default) for name, default in zip(SHARES, (0.8, 0.5), strict=True))
        settings["text_mask_shares"] = (mask, (1 - mask) * random, (1 - mask) * (1 - random))
    return settings, recipe


def derive(
    base: RunSpec, strategy: str, settings: Mapping[str, Any], recipe: Mapping[str, Any], epochs: float = 1
) -> RunSpec:
    """Return `base` with another strategy and changes to its settings and recipe.

    Raises:
        UserError: a name is not known, or a ratio, patch size or number of epochs does not fit.
    """
    method = methods.get(base.method)
    changed = matrix.changed_recipe(method, base.recipe, recipe)
    if epochs != 1:
        changed = matrix.changed_recipe(method, changed, changed.stretched(epochs))
    return base.model_copy(
        update={"strategy": matrix.resolve_strategy(strategy, dict(settings), base.network.size), "recipe": changed}
    )


# --- files ------------------------------------------------------------------------------------------------------------


def shipped() -> list[str]:
    """Return the names of the shipped studies."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read_study(name: str, variant: str = "") -> Grid | Search:
    """Return the study called `name`, or the one in the YAML file `name`, with its values for `variant`.

    Raises:
        UserError: there is none, or a field of it is wrong.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else SHIPPED / f"{choose(name, shipped(), 'study')}.yaml"
    values = read_yaml(path, "study", shipped())
    if not isinstance(values, dict):
        raise UserError(f"study {path} holds no fields; see the shipped ones in {SHIPPED}.")
    kind = choose(str(values.get("kind")), ("grid", "search"), f"kind of study {path.name}")
    special = values.get("variants") or {}
    return read_model(
        {"grid": Grid, "search": Search}[kind], {**values, **special.get(variant, {})}, f"study {path.name}"
    )


def folder(runs: Path, name: str) -> Path:
    """Return where a study keeps what is its own; its runs are run directories like all others."""
    return runs / "studies" / name


def names(runs: Path) -> list[str]:
    """Return the studies that were started in the folder `runs`."""
    return sorted(path.parent.name for path in (runs / "studies").glob("*/study.yaml"))


def load(runs: Path, name: str) -> Started:
    """Return a study under way.

    Raises:
        UserError: there is none of that name (the nearest are listed), or its file is damaged.
    """
    if not names(runs):
        raise UserError(
            f"no study was started in {runs}; start one, e.g. `risbench study run components --preset quick`."
        )
    path = folder(runs, choose(name, names(runs), "study")) / "study.yaml"
    return read_model(Started, read_yaml(path, "study", shipped()), str(path))


def save(runs: Path, started: Started) -> None:
    """Write a study under way; one that was begun with other settings under this name is kept.

    Raises:
        UserError: it was begun with other settings (the message names the first that differs), or its name cannot be one.
    """
    groups.check_name(runs, started.name, "study")
    path = folder(runs, started.name) / "study.yaml"
    values = started.model_dump(mode="json")
    if path.exists():
        before = load(runs, started.name).model_dump(mode="json")
        free = ("origin", "data", "images", "execution", "jobs")
        differing = _first_difference(*({k: v for k, v in d.items() if k not in free} for d in (before, values)))
        if differing:
            raise UserError(
                f"study {started.name} was begun in {runs} with other settings ({differing}): go on with `risbench study"
                f" resume {started.name}`, or give this one another --name."
            )
    write_aside(path, lambda aside: aside.write_text(yaml.safe_dump(values, sort_keys=False)))


def _first_difference(before: Any, now: Any, where: str = "") -> str:
    """Return the first field in which two nests differ, but for the number of trials, which may grow; "" where none does."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            if name != "trials" and (found := _first_difference(before.get(name), now.get(name), f"{where}.{name}")):
                return found
        return ""
    return "" if before == now else f"{where[1:]} was {before}, is {now}"


# --- starting one -----------------------------------------------------------------------------------------------------


def start(
    name: str,
    preset_name: str,
    options: Mapping[str, Any],
    data: Path | None = None,
    images: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    called: str | None = None,
) -> Started:
    """Return the study `name` on the data, variant and execution of a preset; nothing is written yet.

    Args:
        options: method, dataset, variant, seeds in place of the study's and the preset's; None where not given.
        changes: other fields of the study (trials, sampler ...). called: its name [study-preset, and what options change].

    Raises:
        UserError: a name or a setting is wrong, or data are missing.
    """
    preset = matrix.read_preset(preset_name)
    variant = options.get("variant") or preset.variants[0]
    study = read_study(name, variant)
    update = {field: value for field, value in (changes or {}).items() if value is not None}
    if options.get("seeds"):
        update["seeds"] = tuple(options["seeds"])
    if options.get("method"):
        update["method"] = options["method"]
    study = read_model(type(study), {**study.model_dump(), **update, "variants": {}}, f"study {name}")
    if study.kind == "search" and len(study.seeds) != 1:
        raise UserError("a search compares trials of one seed: give --seeds one number.")
    found = matrix.resolve(
        preset_name,
        preset.model_copy(
            update={
                "methods": (study.method,),
                "strategies": ("baseline",),
                "variants": (variant,),
                "datasets": (options.get("dataset") or preset.datasets[0],),
                "seeds": study.seeds,
                "recipes": {study.method: {**preset.recipes.get(study.method, {}), **study.recipe}},
            }
        ),
        data,
        images,
    )
    chosen = [str(options[field]).replace(":", "-") for field in ("method", "dataset", "variant") if options.get(field)]
    started = Started(
        name=called or "-".join([Path(name).stem, Path(preset_name).stem, *chosen]),
        origin=name,
        preset=preset_name,
        study=study,
        bases={spec.seed: spec for spec in found.specs},
        settings=preset.strategy,
        data=found.place.root,
        images=images,
        execution=preset.execution,
        jobs=preset.jobs,
    )
    if study.kind == "grid":
        started.specs()
    else:
        study.conditions()
        for name, room in study.space.items():
            for value in room.ends:
                try:
                    started.trial_spec({**study.paper, name: value})
                except UserError as error:
                    raise UserError(f"study {started.name}, {name} {value}: {error}") from None
    return started
