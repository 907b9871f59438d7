"""Groups as plans: cells, superseded keys, changes of what is judged, and two writers."""

import dataclasses
import json
import multiprocessing

import pytest

from benchmark.base.errors import UserError
from benchmark.runs.comparisons import planned_comparisons
from benchmark.runs.groups import Cell, Group, check_name, read_group, read_groups, write_plan
from benchmark.runs.preset import narrow, replaced
from benchmark.runs.resolve import planned_cells
from benchmark.runs.rundir import RunDir
from tests.helpers import tiny_matrix


def cell(method="lavt", seed=0, key="", **more):
    return Cell(method, "tiny", "baseline", "refcoco", "unc", seed, key=key, **more)


def test_a_plan_holds_every_cell_and_narrowing_never_changes_it(boxes):
    whole = tiny_matrix(boxes).preset
    part = narrow(whole, methods=["lavt"])
    found = tiny_matrix(boxes, methods=("lavt",))
    group = dataclasses.replace(found, name="plan").group(whole)
    assert (
        len(group.cells) == len(planned_cells(whole)) > len(group.keys) == len(planned_cells(part))
    )
    assert {one.method for one in group.cells if one.key} == {"lavt"}
    assert group.axes["methods"] == list(whole.methods) and group.primary == {
        "full": "oiou",
        "weak": "miou",
    }


def test_what_is_not_planned_is_refused_and_may_be_another_plan(boxes):
    whole = tiny_matrix(boxes).preset
    with pytest.raises(UserError, match="plans seeds 0 and no 5: .*--name"):
        narrow(whole, seeds=[5])
    assert replaced(whole, seeds=[5]).seeds == (5,)


def test_keys_survive_a_plan_that_did_not_resolve_them(tmp_path):
    write_plan(tmp_path, Group("quick", "preset", cells=[cell(key="a"), cell(seed=1, key="b")]))
    group = write_plan(tmp_path, Group("quick", "preset", cells=[cell(), cell(seed=1, key="b")]))
    assert group.keys == ["a", "b"] and group.superseded == []


def test_a_key_is_superseded_when_its_cell_gets_another_or_goes(tmp_path):
    write_plan(tmp_path, Group("quick", "preset", cells=[cell(key="a"), cell(seed=1, key="b")]))
    group = write_plan(tmp_path, Group("quick", "preset", cells=[cell(key="c")]))
    assert group.keys == ["c"] and group.superseded == ["a", "b"]
    # A cell that comes back has its key again, and what was superseded becomes current.
    group = write_plan(tmp_path, Group("quick", "preset", cells=[cell(key="a"), cell(seed=1)]))
    assert group.keys == ["a", "b"] and group.superseded == ["c"]
    assert read_group(tmp_path, "quick") == group


def test_a_change_of_what_is_judged_is_told_once_runs_are_done(boxes, tmp_path):
    found = tiny_matrix(boxes, methods=("lavt",), strategies=("baseline",))
    (spec,) = found.specs
    RunDir(tmp_path / spec.key).create(spec)
    plan = Group("quick", "preset", cells=[Cell.of(spec)])
    write_plan(tmp_path, plan)
    moved = dataclasses.replace(plan, margin=1.0)
    assert write_plan(tmp_path, moved).changes == []
    RunDir(tmp_path / spec.key).write_status("done")
    other = dataclasses.replace(moved, primary={"full": "miou", "weak": "miou"})
    (change,) = write_plan(tmp_path, other).changes
    assert "primary was oiou (full), miou (weak)" in change and "is now miou (full)" in change
    assert write_plan(tmp_path, other).changes == [change]


def test_trials_of_one_run_are_cells_of_their_own(tmp_path):
    group = write_plan(
        tmp_path, Group("s", "study", cells=[cell(key="a", trial=3), cell(key="a", trial=7)])
    )
    assert group.trials == {"a": [3, 7]} and group.keys == ["a"]


def test_presets_come_before_studies_and_names_are_checked(tmp_path):
    assert read_groups(tmp_path) == []
    write_plan(tmp_path, Group("quick", "preset", cells=[cell(key="a")]))
    write_plan(tmp_path, Group("ablation", "study", cells=[cell(key="a", row="one")]))
    assert [group.name for group in read_groups(tmp_path)] == ["quick", "ablation"]
    with pytest.raises(UserError, match="'quick' is the name of a preset"):
        check_name(tmp_path, "quick", "study")
    for name in ("a,b", "../x", ""):
        with pytest.raises(UserError, match="cannot name"):
            write_plan(tmp_path, Group(name, "preset"))
    with pytest.raises(UserError, match="did you mean quick"):
        read_group(tmp_path, "quik")


@pytest.mark.parametrize(
    "text", ["{", "[]", json.dumps({"version": 9}), json.dumps({"version": 2, "cells": 3})]
)
def test_a_damaged_plan_is_named(tmp_path, text):
    write_plan(tmp_path, Group("quick", "preset"))
    (tmp_path / "groups" / "quick.json").write_text(text)
    with pytest.raises(UserError, match="quick.json is damaged"):
        read_groups(tmp_path)


def _add(runs, number):
    for trial in range(number, number + 20):
        known = read_group(runs, "s").cells
        write_plan(runs, Group("s", "study", cells=[*known, cell(key=f"k{trial}", trial=trial)]))


def test_writers_that_meet_leave_a_whole_file(tmp_path):
    write_plan(tmp_path, Group("s", "study"))
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_add, args=(tmp_path, start)) for start in (0, 100)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert len(read_group(tmp_path, "s").keys) + len(read_group(tmp_path, "s").superseded) == 40


# --- predictions that were made elsewhere ---------------------------------------------------------


def test_a_plan_that_is_planned_again_keeps_its_predictions_while_they_are_there(tmp_path):
    guest = cell("guest", key="guest-key", name="guest")
    write_plan(tmp_path, Group("quick", "preset", cells=[cell(key="a")]))
    write_plan(tmp_path, Group("quick", "preset", cells=[guest]), add=True)
    (tmp_path / "guest-key").mkdir()
    again = Group("quick", "preset", cells=[cell(key="a")])
    assert write_plan(tmp_path, again).keys == ["a", "guest-key"]
    (tmp_path / "guest-key").rmdir()
    assert write_plan(tmp_path, again).keys == ["a"]


def test_only_pairs_of_predictions_are_comparisons_of_their_own():
    def of(strategy, name=""):
        return Cell("lavt", "tiny", strategy, "refcoco", "unc", 0, key=strategy + name, name=name)

    own = [of("baseline"), of("maskris")]
    lonely = planned_comparisons(Group("set", "preset", cells=[*own, of("maskris", "one")]), [])
    assert len(lonely) == 2 and not any(its.made_elsewhere for its in lonely)
    cells = [*own, of("maskris", "one"), of("baseline", "two")]
    paired = planned_comparisons(Group("set", "preset", cells=cells), [])
    assert [its.made_elsewhere for its in paired] == [False, False, True, True]
