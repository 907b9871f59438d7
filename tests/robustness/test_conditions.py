"""Names of conditions, and presets of them."""

import pytest

from benchmark.base.errors import UserError
from benchmark.robustness.conditions import (
    narrow_robustness,
    parse_condition,
    read_robustness_preset,
)


def test_presets_name_conditions():
    quick = read_robustness_preset("quick")
    assert len(quick.conditions()) == 4 * 2 + 4 + 1
    assert len(read_robustness_preset("all").conditions()) == 19 * 5 + 4 * 9 + 1
    for condition in quick.conditions():
        assert parse_condition(str(condition)) == condition
    assert (
        len(narrow_robustness(quick, ["testA"], ["maskris"], [1, 5], False, False).conditions())
        == 17 * 2
    )
    assert len(narrow_robustness(quick, None, ["all"], None, False, False).conditions()) == 19 * 5
    with pytest.raises(UserError, match="did you mean quick"):
        read_robustness_preset("quik")
    for wrong in ("fog-9", "referent-130", "fogg-1", "word"):
        with pytest.raises(UserError):
            parse_condition(wrong)
