"""A study is a YAML file that names a grid of rows or a search space.

This module reads studies, starts them on the data of a preset, and keeps what was started.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from benchmark import strategies
from benchmark.base.errors import UserError, WorldError, choose
from benchmark.base.files import atomic_write, read_model, read_yaml
from benchmark.planning.preset_check import check_defined, read_checked
from benchmark.runs import groups
from benchmark.runs.execution import Execution, Places, read_execution
from benchmark.runs.groups import Cell, Group
from benchmark.runs.resolve import derive, resolve_preset
from benchmark.runs.spec import RunSpec
from studies.grid import Grid, Row
from studies.search_space import Search, split_parameters

SHIPPED = Path(__file__).parent


class Started(BaseModel):
    """A study that was started. It is kept as `runs/studies/<name>/study.yaml`.

    The last four fields are no part of any key.

    Attributes:
        name: of this study, under which Optuna, MLflow and the report know it.
        origin: the study that it was made from, a name or a file.
        preset: the preset that it was made from, a name or a file.
        study: the study as it is run, with the variant's values in place.
        bases: seed -> spec of the baseline, from which all specs are made.
        settings: the preset's changes to every strategy.
        data: the REFER folder.
        images: folder of the images, or None for the one in `data`.
        execution: how runs are executed, as a preset says it.
        jobs: number of runs at a time.
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
    def how(self) -> Execution:
        """The way in which runs are executed."""
        return read_execution(self.execution)

    def row_specs(self, row: Row) -> list[RunSpec]:
        """Return the specs of a grid's row, one per seed.

        Raises:
            UserError: a setting of the row does not fit.
        """
        strategy = row.strategy or self.study.strategy
        settings = self.settings | row.settings
        return [
            derive(base, strategy, settings, row.recipe, row.epochs) for base in self.bases.values()
        ]

    def specs(self) -> list[RunSpec]:
        """Return all specs of a grid, each once.

        Raises:
            UserError: a setting of a row does not fit. The message names the row.
        """
        specs: dict[str, RunSpec] = {}
        for row in self.study.rows:
            try:
                specs |= {spec.key: spec for spec in self.row_specs(row)}
            except UserError as error:
                raise UserError(f"study {self.name}, row '{row.label}': {error}") from None
        return list(specs.values())

    def plan(self) -> Group:
        """Return a grid as a plan, with a cell for each row and seed."""
        cells = [
            Cell.of(spec, row.label) for row in self.study.rows for spec in self.row_specs(row)
        ]
        return Group(self.name, "study", self.study.description, cells=cells)

    def trial_spec(self, parameters: Mapping[str, Any]) -> RunSpec:
        """Return the spec of a search's trial.

        Args:
            parameters: name -> value, of the search's space.

        Raises:
            UserError: a parameter is not known, or its value does not fit.
        """
        (base,) = self.bases.values()
        settings, recipe = split_parameters(type(base.recipe), parameters)
        strategy = self.study.strategy
        if settings.get("distill_weight") == 0:
            # L_dist counts nothing then, so the trial is the baseline, which needs one pass.
            strategy = strategies.reference().name
        return derive(base, strategy, self.settings | settings, recipe)


# --- files ----------------------------------------------------------------------------------------


def _shipped_files() -> dict[str, Path]:
    return {path.stem: path for path in SHIPPED.glob("*/*.yaml")}


def shipped() -> list[str]:
    """Return the names of the shipped studies."""
    return sorted(_shipped_files())


def read_study(name: str, variant: str = "") -> Grid | Search:
    """Return the study called `name`, or the one in the YAML file `name`.

    Args:
        name: of a shipped study, or the path of a file.
        variant: the study has its values for this variant.

    Raises:
        UserError: there is none, or a field of it is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    else:
        path = _shipped_files()[choose(name, shipped(), "study")]
    values = read_yaml(path, "study", shipped())
    if not isinstance(values, dict):
        raise UserError(f"study {path} holds no fields: see the shipped ones in {SHIPPED}.")
    kind = choose(str(values.get("kind")), ("grid", "search"), f"kind of study {path.name}")
    of_variant = (values.get("variants") or {}).get(variant, {})
    model = {"grid": Grid, "search": Search}[kind]
    return read_model(model, {**values, **of_variant}, f"study {path.name}")


def folder(runs: Path, name: str) -> Path:
    """Return where a study keeps what is its own. Its runs are run directories like all others."""
    return runs / "studies" / name


def names(runs: Path) -> list[str]:
    """Return the names of the studies that were started in the folder `runs`."""
    return sorted(path.parent.name for path in (runs / "studies").glob("*/study.yaml"))


def load(runs: Path, name: str) -> Started:
    """Return a study that was started.

    Raises:
        UserError: there is none of that name. The message lists the nearest.
        WorldError: its file is damaged.
    """
    if not names(runs):
        raise UserError(
            f"no study was started in {runs}: start one, e.g."
            " `risbench study run components --preset quick`."
        )
    path = folder(runs, choose(name, names(runs), "study")) / "study.yaml"
    try:
        return read_model(Started, read_yaml(path, "study", shipped()), str(path))
    except UserError as error:
        raise WorldError(
            f"{str(error).rstrip('.')}. The file is damaged: delete it and start the study again as"
            " before with `risbench study run`, which goes on from the runs and trials there are."
        ) from None


def save(runs: Path, started: Started) -> None:
    """Write a study that is started.

    Raises:
        UserError: a study was begun under this name with other settings, which is kept, or the name
            cannot be one. The message names the first setting that differs.
    """
    groups.check_name(runs, started.name, "study")
    path = folder(runs, started.name) / "study.yaml"
    values = started.model_dump(mode="json")
    if path.exists():
        before = load(runs, started.name).model_dump(mode="json")
        # These say where the study runs and not what it is, so they may change.
        places = ("origin", "data", "images", "execution", "jobs")
        now = {field: value for field, value in values.items() if field not in places}
        before = {field: value for field, value in before.items() if field not in places}
        if difference := _first_difference(before, now):
            raise UserError(
                f"study {started.name} was begun in {runs} with other settings ({difference}): go"
                f" on with `risbench study resume {started.name}`, or give this one another --name."
            )
    text = yaml.safe_dump(values, sort_keys=False)
    atomic_write(path, lambda temporary: temporary.write_text(text))


def _first_difference(before: Any, now: Any, where: str = "") -> str:
    """Return the first field in which two nested dicts differ, and how, or "" if none does.

    The number of trials is left out, because it may grow.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now} - {"trials"}):
            path = f"{where}.{name}"
            if difference := _first_difference(before.get(name), now.get(name), path):
                return difference
        return ""
    return "" if before == now else f"{where[1:]} was {before}, is {now}"


# --- starting one ---------------------------------------------------------------------------------


def start(
    name: str,
    preset_name: str,
    options: Mapping[str, Any],
    places: Places | None = None,
    changes: Mapping[str, Any] | None = None,
    called: str | None = None,
) -> Started:
    """Return the study `name` on the data, variant and execution of a preset.

    Embedded data sets may be written, but the study is not written yet.

    Args:
        name: of a shipped study, or the path of a file.
        preset_name: of a preset, or the path of a file.
        options: may hold `method`, `dataset`, `variant` and `seeds`, in place of those of the study
            and the preset. None stands for an option that was not given.
        places: where things lie. Without a data folder the preset's is used, and embedded sets are
            written there.
        changes: other values of the study's fields (trials, sampler ...).
        called: name of what is started. By default it is made of the names of the study and the
            preset and of the options.

    Raises:
        UserError: a name or a setting is wrong, or data are missing.
    """
    preset = read_checked(preset_name)
    places = places or Places(None)
    write_embedded = places.data is None
    places = dataclasses.replace(places, data=places.data or preset.data)
    variant = options.get("variant") or preset.variants[0]
    study = _with_changes(read_study(name, variant), name, options, changes or {})
    if study.kind == "search" and not study.objectives:
        study = study.model_copy(update={"objectives": (preset.selection.metric,)})
    study.check()
    dataset = options.get("dataset") or preset.datasets[0]
    shown = study.metrics if study.kind == "grid" else study.judged()
    check_defined(shown, [dataset])

    # All specs of the study are made from those of the baseline.
    baselines = preset.model_copy(
        update={
            "methods": (study.method,),
            "strategies": (strategies.reference().name,),
            "variants": (variant,),
            "datasets": (dataset,),
            "seeds": study.seeds,
            "recipes": {study.method: {**preset.recipes.get(study.method, {}), **study.recipe}},
        }
    )
    matrix = resolve_preset(preset_name, baselines, places, write_embedded)
    chosen = [
        str(options[field]).replace(":", "-")
        for field in ("method", "dataset", "variant")
        if options.get(field)
    ]
    started = Started(
        name=called or "-".join([Path(name).stem, Path(preset_name).stem, *chosen]),
        origin=name,
        preset=preset_name,
        study=study,
        bases={spec.seed: spec for spec in matrix.specs},
        settings=preset.strategy,
        # The next command on it may start in another folder.
        data=places.data.resolve(),
        images=places.images.resolve() if places.images else None,
        execution=preset.execution,
        jobs=preset.jobs,
    )
    _try_specs(started)
    return started


def _with_changes(
    study: Grid | Search, name: str, options: Mapping[str, Any], changes: Mapping[str, Any]
) -> Grid | Search:
    """Return a study with the options and changes of a command in place."""
    update = {field: value for field, value in changes.items() if value is not None}
    if options.get("seeds"):
        update["seeds"] = tuple(options["seeds"])
    if options.get("method"):
        update["method"] = options["method"]
    values = {**study.model_dump(), **update, "variants": {}}
    study = read_model(type(study), values, f"study {name}")
    if study.kind == "search" and len(study.seeds) != 1:
        raise UserError("a search compares trials of one seed: give --seeds one number.")
    return study


def _try_specs(started: Started) -> None:
    """Make specs of a study, so that a setting that does not fit is found before a run starts."""
    study = started.study
    if study.kind == "grid":
        started.specs()
        return
    for name, values in study.space.items():
        for value in values.ends:
            try:
                started.trial_spec({**study.paper, name: value})
            except UserError as error:
                raise UserError(f"study {started.name}, {name} {value}: {error}") from None
