"""What a study is: a YAML file that names a base spec and either a grid of rows (an ablation of the paper) or a search space."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from benchmark import strategies
from benchmark.base.errors import UserError, choose
from benchmark.base.files import atomic_write, read_model, read_yaml
from benchmark.evaluation import metrics
from benchmark.runs import groups
from benchmark.runs.execution import Execution, Places, read_execution
from benchmark.runs.groups import Cell, Group
from benchmark.runs.preset import read_preset
from benchmark.runs.resolve import derive, resolve_preset
from benchmark.runs.spec import RunSpec
from studies.grid import Grid, Row
from studies.search_space import Search, split_parameters

SHIPPED = Path(__file__).parent


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
    def how(self) -> Execution:
        """How runs are executed."""
        return read_execution(self.execution)

    def row_specs(self, row: Row) -> list[RunSpec]:
        """Return the specs of a grid's row, one per seed; a setting that does not fit raises a UserError that names the row."""
        return [
            derive(
                base,
                row.strategy or self.study.strategy,
                self.settings | row.settings,
                row.recipe,
                row.epochs,
            )
            for base in self.bases.values()
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

    def plan(self) -> Group:
        """Return a grid as a plan: a cell for each row and seed."""
        cells = [
            Cell.of(spec, row.label) for row in self.study.rows for spec in self.row_specs(row)
        ]
        return Group(self.name, "study", self.study.description, cells=cells)

    def trial_spec(self, parameters: Mapping[str, Any]) -> RunSpec:
        """Return the spec of a search's trial. distill_weight 0 is the baseline: L_dist counts nothing, so one pass does."""
        (base,) = self.bases.values()
        settings, recipe = split_parameters(type(base.recipe), parameters)
        without = settings.get("distill_weight") == 0
        strategy = strategies.reference().name if without else self.study.strategy
        return derive(base, strategy, self.settings | settings, recipe)


# --- files ------------------------------------------------------------------------------------------------------------


def _shipped_files() -> dict[str, Path]:
    return {path.stem: path for path in SHIPPED.glob("*/*.yaml")}


def shipped() -> list[str]:
    """Return the names of the shipped studies."""
    return sorted(_shipped_files())


def read_study(name: str, variant: str = "") -> Grid | Search:
    """Return the study called `name`, or the one in the YAML file `name`, with its values for `variant`.

    Raises:
        UserError: there is none, or a field of it is wrong.
    """
    path = (
        Path(name)
        if name.endswith((".yaml", ".yml"))
        else _shipped_files()[choose(name, shipped(), "study")]
    )
    values = read_yaml(path, "study", shipped())
    if not isinstance(values, dict):
        raise UserError(f"study {path} holds no fields; see the shipped ones in {SHIPPED}.")
    kind = choose(str(values.get("kind")), ("grid", "search"), f"kind of study {path.name}")
    special = values.get("variants") or {}
    return read_model(
        {"grid": Grid, "search": Search}[kind],
        {**values, **special.get(variant, {})},
        f"study {path.name}",
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
        differing = _first_difference(
            *({k: v for k, v in d.items() if k not in free} for d in (before, values))
        )
        if differing:
            raise UserError(
                f"study {started.name} was begun in {runs} with other settings ({differing}): go on with `risbench study"
                f" resume {started.name}`, or give this one another --name."
            )
    atomic_write(path, lambda aside: aside.write_text(yaml.safe_dump(values, sort_keys=False)))


def _first_difference(before: Any, now: Any, where: str = "") -> str:
    """Return the first field in which two nests differ, but for the number of trials, which may grow; "" where none does."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            if name != "trials" and (
                found := _first_difference(before.get(name), now.get(name), f"{where}.{name}")
            ):
                return found
        return ""
    return "" if before == now else f"{where[1:]} was {before}, is {now}"


# --- starting one -----------------------------------------------------------------------------------------------------


def start(
    name: str,
    preset_name: str,
    options: Mapping[str, Any],
    places: Places | None = None,
    changes: Mapping[str, Any] | None = None,
    called: str | None = None,
) -> Started:
    """Return the study `name` on the data, variant and execution of a preset; nothing is written yet.

    Args:
        options: method, dataset, variant, seeds in place of the study's and the preset's; None where not given.
        places: where things lie; without a data folder, in the preset's, where embedded sets are written.
        changes: other fields of the study (trials, sampler ...). called: its name [study-preset, and what options change].

    Raises:
        UserError: a name or a setting is wrong, or data are missing.
    """
    preset = read_preset(preset_name)
    places = places or Places(None)
    write_embedded = places.data is None
    places = dataclasses.replace(places, data=places.data or preset.data)
    variant = options.get("variant") or preset.variants[0]
    study = read_study(name, variant)
    update = {field: value for field, value in (changes or {}).items() if value is not None}
    if options.get("seeds"):
        update["seeds"] = tuple(options["seeds"])
    if options.get("method"):
        update["method"] = options["method"]
    study = read_model(
        type(study), {**study.model_dump(), **update, "variants": {}}, f"study {name}"
    )
    metrics.get(preset.selection.metric)
    if study.kind == "search" and not study.objectives:
        study = study.model_copy(update={"objectives": (preset.selection.metric,)})
    study.check()
    if study.kind == "search" and len(study.seeds) != 1:
        raise UserError("a search compares trials of one seed: give --seeds one number.")
    found = resolve_preset(
        preset_name,
        preset.model_copy(
            update={
                "methods": (study.method,),
                "strategies": (strategies.reference().name,),
                "variants": (variant,),
                "datasets": (options.get("dataset") or preset.datasets[0],),
                "seeds": study.seeds,
                "recipes": {study.method: {**preset.recipes.get(study.method, {}), **study.recipe}},
            }
        ),
        places,
        write_embedded,
    )
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
        bases={spec.seed: spec for spec in found.specs},
        settings=preset.strategy,
        data=places.data,
        images=places.images,
        execution=preset.execution,
        jobs=preset.jobs,
    )
    if study.kind == "grid":
        started.specs()
    else:
        for name, room in study.space.items():
            for value in room.ends:
                try:
                    started.trial_spec({**study.paper, name: value})
                except UserError as error:
                    raise UserError(f"study {started.name}, {name} {value}: {error}") from None
    return started
