"""A field that a recipe, network or strategy gets later leaves finished runs where they are."""

import dataclasses
import json
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

import methods
from benchmark import strategies
from benchmark.base.errors import UserError
from benchmark.runs.resolve import changed_recipe
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec, Selection
from methods.config import added

PINS = Path(__file__).parent / "pins"
SHIPPED = sorted((PINS / "shipped").iterdir())
FROZEN = json.loads((PINS / "fields.json").read_text())


def with_field(kind, name, field):
    """Return a subclass of a model with one more field, as if its module had been edited."""
    annotation, default = field
    return type(kind.__name__, (kind,), {"__annotations__": {name: annotation}, name: default})


@pytest.fixture
def later(monkeypatch):
    """Return a function that gives a method one more field in its recipe and its network."""
    known = methods.definition

    def add(method, name, field):
        old = known(method)
        recipe, config = (with_field(k, name, field) for k in (old.recipe_type, old.config_type))
        new = dataclasses.replace(
            old,
            recipe_type=recipe,
            config_type=config,
            recipes={n: recipe.model_validate(its.model_dump()) for n, its in old.recipes.items()},
            variants={
                n: config.model_validate(its.model_dump()) for n, its in old.variants.items()
            },
        )
        monkeypatch.setattr(
            methods, "definition", lambda name: new if name == method else known(name)
        )
        return new

    return add


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_finished_runs_keep_their_keys_when_a_field_is_added(path, later, tmp_path):
    method = RunDir(path).spec().method
    definition = later(method, "later_field", (float, added(0.5, ge=0)))
    spec = RunDir(path).spec()
    assert spec.recipe.later_field == spec.network.later_field == 0.5
    assert spec.key == path.name

    # A run that is planned now is the same run, and what is written of it is read again.
    planned = spec.model_copy(
        update={
            "recipe": changed_recipe(definition, spec.recipe, {"later_field": 0.5}),
            "network": definition.config_type.model_validate(spec.network.model_dump()),
        }
    )
    assert planned.key == path.name
    run = RunDir(tmp_path / path.name)
    run.create(planned)
    assert run.spec() == planned and "later_field" not in (run.path / "spec.yaml").read_text()


def test_another_value_is_another_run(later, tmp_path):
    definition = later("lavt", "later_field", (float, added(0.5, ge=0)))
    path = next(path for path in SHIPPED if path.name.startswith("lavt"))
    spec = RunDir(path).spec()
    changes = {
        "recipe": changed_recipe(definition, spec.recipe, {"later_field": 0.75}),
        "network": spec.network.model_copy(update={"later_field": 0.75}),
    }
    keys = {path.name}
    for name, value in changes.items():
        changed = spec.model_copy(update={name: value})
        run = RunDir(tmp_path / changed.key)
        run.create(changed)
        assert run.spec() == changed and run.spec().key == run.key
        keys.add(run.key)
    assert len(keys) == 3
    with pytest.raises(UserError, match="later_field: input should be greater"):
        changed_recipe(definition, spec.recipe, {"later_field": -1})


def test_a_field_that_is_not_declared_so_would_orphan_them(later):
    path = next(path for path in SHIPPED if path.name.startswith("lavt"))
    later("lavt", "later_field", (float, 0.5))
    assert RunDir(path).spec().key != path.name


def test_a_setting_of_a_strategy_is_added_in_the_same_way():
    for name in ("maskris", "baseline"):
        strategy = strategies.get(name)
        kind = with_field(type(strategy), "later_setting", (int, added(3)))
        fields = {field: getattr(strategy, field) for field in type(strategy).model_fields}
        assert kind(**fields).key_fields() == strategy.key_fields()
        changed = kind(**fields, later_setting=4).key_fields()
        assert changed == {**strategy.key_fields(), "later_setting": 4}


def test_the_default_of_an_added_field_is_checked_like_any_value():
    class Recipe(BaseModel):
        model_config = ConfigDict(extra="forbid")
        later: int | None = added(None, ge=1)

    assert Recipe().model_dump() == {} and Recipe(later=2).model_dump() == {"later": 2}
    with pytest.raises(ValidationError):
        Recipe(later=0)


def fields_of(kind, prefix=""):
    """Yield dotted name and field for each field of a model and of the models inside it."""
    for name, field in kind.model_fields.items():
        yield f"{prefix}{name}", field
        inside = [field.annotation, *typing.get_args(field.annotation)]
        for model in inside:
            if isinstance(model, type) and issubclass(model, BaseModel):
                yield from fields_of(model, f"{prefix}{name}.")


def models():
    """Return name -> model of all that a key is made from."""
    known = {"spec": RunSpec, "selection": Selection}
    for name in methods.names():
        definition = methods.definition(name)
        known[f"recipe of {name}"] = definition.recipe_type
        known[f"network of {name}"] = definition.config_type
    for name in strategies.names():
        known[f"strategy {name}"] = type(strategies.get(name))
    return known


@pytest.mark.parametrize("name", sorted(FROZEN))
def test_every_field_that_came_later_is_declared_so(name):
    """The fields of the time when runs were first made may neither go nor get company."""
    found = dict(fields_of(models()[name]))
    assert set(FROZEN[name]) <= set(found), "stored specs hold the fields that are gone"
    later = {field for field in set(found) - set(FROZEN[name]) if not found[field].exclude_if}
    assert not later, "declare them with `added` (docs/design.md, A new field)"
