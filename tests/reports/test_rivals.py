"""Strategies that a plan compares with each other, beside the reference."""

import pandas as pd
import pytest

from benchmark.base.errors import UserError
from benchmark.planning.preset_check import check_preset, read_checked
from benchmark.runs.comparisons import planned_rivals
from benchmark.runs.groups import read_group, write_plan
from benchmark.runs.resolve import planned_cells
from reports.collected import collect
from reports.compare import comparison
from reports.matrix import report, rivals
from tests.reports.fakes import make_run, make_spec, pick, plan

PAIR = [["maskris", "masking"]]


@pytest.fixture
def compared(tmp_path):
    """Three seeds of three strategies on one method, and of two on another one."""
    specs = [
        make_spec(strategy, seed, method)
        for method, names in (
            ("cris", ("baseline", "masking", "maskris")),
            ("lavt", ("baseline", "maskris")),
        )
        for strategy in names
        for seed in (0, 1, 2)
    ]
    gains = {"baseline": 0.0, "masking": 0.05, "maskris": 0.2}
    for spec in specs:
        make_run(tmp_path, spec, better=gains[spec.strategy.name])
    return collect(plan(specs, rivals=PAIR), tmp_path)


def test_rivals_have_the_numbers_of_a_comparison_with_one_of_them(compared):
    table = rivals.comparisons(compared)
    assert set(table["method"]) == {"cris"}, "the other method has but one of the two"
    direct = comparison(compared, "masking")
    for metric in ("oiou", "miou"):
        row = pick(table, split="testA", metric=metric)
        expected = pick(direct, split="testA", metric=metric, strategy="+MaskRIS", method="cris")
        assert row["against"] == "+masking" and row["difference"] == expected["difference"]
        assert row["runs"] == expected["runs"]


def test_verdicts_between_rivals_are_a_family_of_their_own(compared):
    planned = planned_rivals(compared.group, compared.specs)
    # One method has both, and of its splits testA alone is a test split.
    assert [(its.strategy, its.split, other) for its, other in planned] == [
        ("maskris", "testA", "masking")
    ]
    row = pick(rivals.comparisons(compared), split="testA", metric="oiou")
    assert row["p_holm"] == pytest.approx(row["p"]), "it is alone in its family"
    assert row["verdict"] == "better"


def test_the_report_shows_them_in_every_format(compared):
    made = report.made(compared, comparison(compared))
    contents = report.contents(made)
    for name in ("table.md", "table.tex", "table.html"):
        assert "Rivals on refshapes" in contents[name]
    assert "all 1 planned comparisons between rivals" in contents["table.md"]
    lines = [line for line in contents["table.md"].splitlines() if "+masking" in line]
    assert any("better" in line for line in lines)


def test_a_plan_without_rivals_has_no_word_of_them(tmp_path):
    specs = [make_spec(strategy) for strategy in ("baseline", "maskris")]
    for spec in specs:
        make_run(tmp_path, spec)
    collected = collect(plan(specs), tmp_path)
    assert "ival" not in report.contents(report.made(collected, comparison(collected)))["table.md"]
    assert isinstance(rivals.comparisons(collected), pd.DataFrame)


def test_rivals_of_which_one_has_not_begun_are_left_out(tmp_path):
    begun = [make_spec(strategy) for strategy in ("baseline", "maskris")]
    for spec in begun:
        make_run(tmp_path, spec)
    group = plan([*begun, make_spec("masking")], rivals=PAIR)
    assert rivals.blocks(collect(group, tmp_path)) == []


def test_a_group_keeps_its_rivals(tmp_path):
    write_plan(tmp_path, plan([make_spec()], rivals=PAIR))
    assert read_group(tmp_path, "set").rivals == PAIR


# --- the preset -----------------------------------------------------------------------------------


def test_a_preset_leaves_out_what_a_method_cannot_be_driven_by():
    preset = read_checked("strategies")
    cells = {(cell.method, cell.strategy) for cell in planned_cells(preset)}
    assert ("cmmasksd", "cmmasksd") in cells and ("lavt", "cmmasksd") not in cells
    assert len(planned_cells(preset)) == 3 * (6 + 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"leave_out": {}}, "learned tokens, which the method lavt does not have"),
        ({"leave_out": {"lavd": ("cmmasksd",)}}, "leave_out: .*'lavd'.*lavt"),
        ({"leave_out": {"lavt": ("maskriss",)}}, "leave_out: .*'maskriss'.*maskris"),
        ({"rivals": (("maskris", "crop"),)}, "rivals: .*'crop'"),
    ],
)
def test_a_wrong_name_is_refused_with_its_place(change, message):
    preset = read_checked("strategies").model_copy(update=change)
    with pytest.raises(UserError, match=message):
        check_preset(preset, "strategies")
