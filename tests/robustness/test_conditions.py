"""Names of conditions, and those that presets ask for."""

import pytest

from benchmark.base.errors import UserError
from benchmark.robustness.conditions import (
    conditions_of,
    narrow_conditions,
    parse_condition,
)
from benchmark.runs.preset import preset_names, read_preset


def shipped(name):
    return conditions_of(read_preset(name), name)


def test_presets_name_conditions():
    quick = shipped("quick")
    assert len(quick.conditions()) == 4 * 2 + 4 + 1
    assert len(shipped("paper").conditions()) == 19 * 5 + 4 * 9 + 1
    for condition in quick.conditions():
        assert parse_condition(str(condition)) == condition
    assert (
        len(narrow_conditions(quick, ["testA"], ["maskris"], [1, 5], False, False).conditions())
        == 17 * 2
    )
    assert len(narrow_conditions(quick, None, ["all"], None, False, False).conditions()) == 19 * 5
    for wrong in ("fog-9", "referent-130", "fogg-1", "word"):
        with pytest.raises(UserError):
            parse_condition(wrong)


def test_every_preset_asks_for_conditions():
    for name in preset_names():
        grid = shipped(name)
        assert grid.splits and len({str(its) for its in grid.conditions()}) > 10


def test_the_demonstration_is_six_runs_under_the_common_corruptions():
    preset = read_preset("demo")
    axes = {name: len(values) for name, values in preset.axes().items()}
    assert axes == {"methods": 1, "strategies": 2, "datasets": 1, "variants": 1, "seeds": 3}
    assert preset.recipes == {"lavt": {"epochs": 10}} and preset.variants == ("tiny",)
    grid = shipped("demo")
    names = [str(its) for its in grid.conditions()]
    levels = [name for name in names if name.endswith(("-1", "-3", "-5"))]
    assert grid.splits == ("testA",) and len(levels) == 15 * 3
    assert len(names) == 15 * 3 + 4 * 9 + 1 and "referent-50" in names and names[-1] == "words"


def test_a_wrong_field_is_named():
    preset = read_preset("demo").model_copy(update={"robustness": {"splits": ["val"], "matrix": 1}})
    with pytest.raises(
        UserError, match="preset mine: robustness: field 'matrix' .*valid are .*splits"
    ):
        conditions_of(preset, "mine")
