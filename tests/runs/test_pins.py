"""Keys and files from before the code was moved into rooms, which no refactoring may change."""

import json
from pathlib import Path

import pytest

import methods
from benchmark.runs.execution import Places
from benchmark.runs.preset import read_preset
from benchmark.runs.resolve import changed_recipe, resolve_preset, resolve_strategy
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec, Selection
from benchmark.training import auxiliary
from studies import study

PINS = Path(__file__).parent / "pins"
KEYS = json.loads((PINS / "keys.json").read_text())
DATA, PIECES, WEIGHTS = "d" * 64, "a" * 16, "b" * 16  # invented digests
SPLITS = ("val", "testA", "testB")


def spec(
    method,
    variant,
    dataset="refcoco",
    split_by="unc",
    strategy="baseline",
    settings=None,
    seed=0,
    recipe=None,
    report=SPLITS,
):
    kind = methods.definition(method)
    config = kind.config_for(variant, dataset)
    return RunSpec(
        method=method,
        variant=variant,
        dataset=dataset,
        split_by=split_by,
        seed=seed,
        strategy=resolve_strategy(strategy, settings or {}, kind, config),
        recipe=changed_recipe(kind, kind.recipes[variant], recipe or {}),
        network=config,
        selection=Selection(metric="oiou", report=report),
        data_sha256=DATA,
        tokenizer=PIECES,
        weights="scratch" if config.pretrained == "scratch" else WEIGHTS,
        method_revision=kind.revision(variant, kind.recipes[variant].precision),
    )


@pytest.mark.parametrize("method", sorted({row[0] for row in KEYS["variants"]}))
def test_every_variant_keeps_its_key(method):
    for name, variant, dataset, split_by, strategy, patch, key in KEYS["variants"]:
        if name == method:
            report = ("val", "test") if dataset == "refcocog" else SPLITS
            found = spec(
                name, variant, dataset, split_by, strategy, {"patch_size": patch}, report=report
            )
            assert found.key == key, (variant, dataset, strategy)


@pytest.mark.parametrize(("strategy", "settings", "key"), KEYS["strategies"])
def test_every_strategy_keeps_its_key(strategy, settings, key):
    assert spec("lavt", "tiny", "refshapes", "unc", strategy, settings, seed=3).key == key


def started(name, preset, variant):
    found, matrix = study.read_study(name, variant), read_preset(preset)
    recipe = {**matrix.recipes.get(found.method, {}), **found.recipe}
    base = spec(found.method, variant, matrix.datasets[0].split(":")[0], recipe=recipe)
    base = base.model_copy(
        update={"selection": matrix.selection.model_copy(update={"report": SPLITS})}
    )
    return study.Started(
        name="x",
        origin=name,
        preset=preset,
        study=found,
        bases={0: base},
        settings=matrix.strategy,
        data=Path("x"),
    )


@pytest.mark.parametrize(
    ("name", "preset", "variant"), sorted({tuple(row[:3]) for row in KEYS["grids"]})
)
def test_the_rows_of_every_grid_keep_their_keys(name, preset, variant):
    whole = started(name, preset, variant)
    found = [[row.label, its.key] for row in whole.study.rows for its in whole.row_specs(row)]
    assert found == [row[3:] for row in KEYS["grids"] if tuple(row[:3]) == (name, preset, variant)]


@pytest.mark.parametrize(("name", "preset", "variant", "what", "parameters", "key"), KEYS["trials"])
def test_the_trials_of_every_search_keep_their_keys(name, preset, variant, what, parameters, key):
    assert started(name, preset, variant).trial_spec(parameters).key == key


@pytest.mark.parametrize(("method", "variant", "digest"), KEYS["auxiliary"])
def test_auxiliaries_are_found_under_their_old_names(method, variant, digest):
    assert auxiliary._digest(spec(method, variant)) == digest


@pytest.mark.parametrize("path", sorted((PINS / "shipped").iterdir()), ids=lambda path: path.name)
def test_specs_of_the_quick_matrix_are_read_and_give_their_key(path):
    run = RunDir(path)
    assert run.spec().key == run.key
    assert run.status().state == "done"


@pytest.mark.docs
def test_the_quick_preset_still_plans_the_runs_whose_numbers_are_pinned(tmp_path):
    """Whatever planning refuses, it refuses at the embedded data's full size, too."""
    places = Places(tmp_path / "data", runs=tmp_path / "runs")
    matrix = resolve_preset("quick", read_preset("quick"), places, write_embedded=True)
    planned = {spec.key for spec in matrix.specs}
    assert planned == json.loads((PINS / "quick.json").read_text())["runs"].keys()
