"""From plans to finished runs: what enters, what is listed beside it, and what is refused."""

import pytest

from benchmark.base.errors import UserError
from benchmark.evaluation import metrics
from benchmark.evaluation.records import canonical
from benchmark.runs.groups import Cell, Group, read_group, write_plan
from benchmark.runs.rundir import RunDir
from reports import notes
from reports.collected import NOT_RESOLVED, collect
from reports.compare import comparison
from tests.reports.fakes import SPLITS, make_run, make_runs, make_spec, plan, table_of


def footnotes(collected):
    return "\n".join(notes.footnotes(collected, comparison(collected)))


def test_every_planned_cell_has_its_state(tmp_path):
    done, failed, running, waiting, pruned, interrupted = (
        make_spec(seed=seed) for seed in range(6)
    )
    make_run(tmp_path, done)
    make_run(tmp_path, failed, "failed", reason="no\nroom")
    make_run(tmp_path, running, "running", step=30, steps=120)
    make_run(tmp_path, pruned, "pruned", reason="by Hyperband")
    make_run(tmp_path, interrupted, "planned", step=60, steps=120)
    group = plan([done, failed, running, waiting, pruned, interrupted])
    group.cells.append(Cell("lavt", "tiny", "maskris", "refcoco+", "unc", 3))
    collected = collect(group, tmp_path)
    assert [run.spec.key for run in collected.runs] == [done.key]
    words = {planned.name: planned.words for planned in collected.unfinished}
    assert words == {
        failed.key: "failed (no room)",
        running.key: "running (25% of the steps are done)",
        waiting.key: "planned",
        pruned.key: "pruned (by Hyperband)",
        interrupted.key: "planned (50% of the steps are done)",
        "lavt tiny maskris on refcoco+ (unc), seed 3": NOT_RESOLVED,
    }
    assert [*words][-1].startswith("lavt"), "what has no key yet comes last"
    text = footnotes(collected)
    assert "(6 of 7 runs)" in text and f"  {failed.key}: failed (no room)" in text
    assert f"seed 3: {NOT_RESOLVED}" in text


def test_superseded_runs_are_listed_apart_from_unused_ones(tmp_path):
    before, now = make_spec(learning_rate=0.5), make_spec()
    gone, stranger, needed = make_spec(seed=8), make_spec("maskris", 9), make_spec(seed=7)
    write_plan(tmp_path, plan([before, gone]))
    write_plan(tmp_path, plan([now], needed=[needed.key]))
    make_runs(tmp_path, before, now, gone, stranger, needed)
    make_run(tmp_path, make_spec(seed=6), "running")
    collected = collect(read_group(tmp_path, "set"), tmp_path)
    assert [run.spec.key for run in collected.runs] == [now.key]
    assert set(collected.superseded) == {before.key, gone.key}
    assert collected.unused == (stranger.key,)
    text = footnotes(collected)
    assert "2 finished runs are superseded" in text and before.key in text
    assert f"1 finished run in the folder is not part of this table: {stranger.key}." in text
    assert needed.key not in text


def test_a_superseded_key_without_a_finished_run_is_not_worth_a_word(tmp_path):
    before, now = make_spec(learning_rate=0.5), make_spec()
    write_plan(tmp_path, plan([before]))
    write_plan(tmp_path, plan([now]))
    make_runs(tmp_path, now)
    assert not collect(read_group(tmp_path, "set"), tmp_path).superseded


def test_chosen_cells_narrow_the_table_and_not_the_plan(tmp_path):
    specs = [make_spec(method=method) for method in ("cris", "lavt")]
    make_runs(tmp_path, *specs)
    group = plan(specs)
    collected = collect(group, tmp_path, group.cells[:1])
    assert [run.spec.method for run in collected.runs] == ["cris"]
    assert collected.unused == (), "a run of the plan is not a stranger"
    assert "The table is about 1 of the 2 planned runs." in footnotes(collected)


def test_changes_of_the_plan_stand_under_the_table(tmp_path):
    specs = [make_spec()]
    make_runs(tmp_path, *specs)
    write_plan(tmp_path, plan(specs))
    write_plan(tmp_path, plan(specs, margin=1.0))
    text = footnotes(collect(read_group(tmp_path, "set"), tmp_path))
    assert "The plan was changed: margin was 0.5" in text and "is now 1.0." in text


# --- numerics -------------------------------------------------------------------------------------


def numerics_text(tmp_path, one, other):
    specs = [make_spec("baseline"), make_spec("maskris")]
    for spec, environment in zip(specs, (one, other), strict=True):
        make_run(tmp_path, spec, environment=environment)
    text = footnotes(collect(plan(specs), tmp_path))
    (line,) = [line for line in text.splitlines() if "numerics" in line] or [""]
    return line, specs


def test_compared_runs_of_other_numerics_are_warned_about(tmp_path):
    one = {"device": "cpu", "threads": 1, "processes": 1}
    line, specs = numerics_text(
        tmp_path, {"numerics": one}, {"numerics": {**one, "device": "cuda", "threads": 4}}
    )
    assert "device cuda and cpu, threads 4 and 1" in line
    assert all(spec.key in line for spec in specs)


def test_numerics_of_old_runs_are_those_of_their_device(tmp_path):
    old = {"type": "cpu", "name": "x86_64", "processes": 1, "threads": 2}
    new = {"device": "cpu", "threads": 1, "processes": 1, "tf32": False}
    line, _ = numerics_text(tmp_path, {"device": old}, {"numerics": new})
    assert "threads 1 and 2" in line and "device" not in line and "tf32" not in line


@pytest.mark.parametrize("other", [{}, {"numerics": {"device": "cpu", "threads": 1}}])
def test_what_is_equal_or_not_known_is_no_difference(tmp_path, other):
    assert numerics_text(tmp_path, {"numerics": {"device": "cpu", "threads": 1}}, other)[0] == ""


# --- what is refused ------------------------------------------------------------------------------


def test_nothing_finished_says_what_to_run(tmp_path):
    specs = [make_spec()]
    with pytest.raises(UserError, match="none of the 1 runs .* `risbench matrix`"):
        collect(plan(specs), tmp_path)
    study = Group("mine", "study", cells=[Cell.of(spec) for spec in specs])
    with pytest.raises(UserError, match="`risbench study resume mine`"):
        collect(study, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "row", "result", "epoch", "missing", "spec"])
def test_damaged_runs_are_named(tmp_path, damage):
    spec = make_spec()
    run = make_run(tmp_path, spec)
    parquet = run.path / "records" / "val.parquet"
    records, result = run.records("val"), run.read_json("result.json")
    if damage == "cut":
        parquet.write_bytes(parquet.read_bytes()[:200])
    if damage == "row":
        run.write_records("val", records.assign(union=0))
    if damage == "result":
        run.write_records("val", records.assign(intersection=records["intersection"] // 2))
    if damage == "epoch":
        run.write_json("result.json", {name: result[name] for name in SPLITS})
    if damage == "missing":
        parquet.unlink()
    if damage == "spec":
        text = (run.path / "spec.yaml").read_text()
        (run.path / "spec.yaml").write_text(text.replace("seed: 0", "seed: 5"))
    with pytest.raises(UserError, match=spec.key):
        collect(plan([spec]), tmp_path)


def test_pairs_about_other_expressions_are_refused_by_name(tmp_path):
    specs = [make_spec("baseline"), make_spec("maskris")]
    make_runs(tmp_path, *specs)
    run = RunDir(tmp_path / specs[1].key)
    fewer = run.records("val").iloc[3:]
    run.write_records("val", fewer)
    numbers = canonical(metrics.compute(fewer))
    run.write_json("result.json", {**run.read_json("result.json"), "val": numbers})
    named = f"'val' of {specs[1].key}, {specs[0].key}: .*same expressions"
    with pytest.raises(UserError, match=named):
        table_of(tmp_path, specs)
