"""What the report says, what it leaves out and why, and that it is the same bytes again."""

import shutil

import numpy as np
import pandas as pd
import pytest

from benchmark.base.errors import UserError
from benchmark.base.rng import generator
from benchmark.evaluation import bootstrap, metrics
from benchmark.evaluation.records import canonical
from benchmark.robustness.conditions import conditions_of
from benchmark.robustness.corruptions import Condition
from benchmark.robustness.results import read_results, write_results
from benchmark.runs.groups import write_plan
from benchmark.runs.preset import read_preset
from benchmark.runs.rundir import RunDir
from reports.collected import collect
from reports.figures import contents_of
from reports.layout import files
from reports.robustness import figures, parts, report, words
from reports.robustness.finished import Finished, finished
from reports.robustness.results import Results, gather
from reports.robustness.table import table as table_of
from tests.reports.fakes import make_run, make_spec, pick, plan
from tests.reports.robustness.runs import BOTH, CONDITIONS, gathered, oiou, sentences, worse


def test_the_report_says_what_it_is_and_is_the_same_bytes_again(evaluated, found, tmp_path):
    runs, specs = evaluated
    every, table = found
    made = report.contents("test", Finished(every, table, 4, specs[0].key))
    paths = files.write(tmp_path / "one", made)
    text = paths[0].read_text()
    assert "mPC*" in text and "not comparable with an mPC that others report" in text
    assert "over the common ones of only 4 corruptions" in text and "3 seed pairs" in text
    assert text.count("Images were changed with imagecorruptions-imaug") == 1
    assert "Ranked by mPC" in text and text.index("| cris tiny | +MaskRIS") < text.index(
        "| cris tiny | baseline"
    )
    kinds = {path.name.split("-")[0] for path in paths if path.suffix == ".png"}
    assert kinds == {"severity", "means", "heat", "occlusion", "language"}
    assert f"4 conditions of {len(specs)} runs." in text
    again = report.contents("test", Finished(every, table, 4, specs[0].key))
    assert again == made
    words_alone = contents_of(figures.draw(every, table[table["kind"].isin(("word", "language"))]))
    assert (
        words_alone["language-refshapes-val.png"]
        == (paths[0].parent / "language-refshapes-val.png").read_bytes()
    )
    back = pd.read_csv(paths[1])
    assert len(back) == len(table) and back["mean"].to_numpy() == pytest.approx(
        table["mean"].to_numpy(), abs=1e-6
    )


def test_a_whole_mpc_is_called_so(evaluated, found):
    every, _ = found
    assert parts.mpc_name(every) == "mPC*"
    names = [str(its) for its in conditions_of(read_preset("gpu"), "gpu").conditions()]
    seeds = {0: dict.fromkeys(["clean", *names])}
    whole = Results(every[0].group, every[0].setting, "val", {"baseline": seeds}, ())
    assert parts.mpc_name([whole]) == "mPC"


def test_other_libraries_are_noticed(evaluated, found):
    every, _ = found
    records = every[0].records["baseline"][0]["fog-1"]
    before = dict(records.attrs["made_with"])
    records.attrs["made_with"]["pillow"] = "1.0"
    (line,) = words.libraries(every)
    records.attrs["made_with"] = before
    assert "may differ" in line and "pillow 1.0" in line


def test_what_is_missing_is_named(evaluated):
    runs, specs = evaluated
    every = gathered(runs, specs, [*CONDITIONS, Condition("frost", 1)])
    assert every[0].missing == ("frost-1",)
    assert any(
        "frost-1, so these conditions are left out" in line
        for line in words.definitions(every, table_of(every), None)
    )
    with pytest.raises(UserError, match="evaluated under these conditions on val"):
        gathered(runs, specs, [Condition("frost", 1)])
    with pytest.raises(UserError, match="is not among the runs of this report"):
        table_of(every, "another-run")


def extended(evaluated, folder, *seeds, conditions=CONDITIONS):
    """Return a copy of the runs with runs of one more strategy, and its specs."""
    runs, specs = evaluated
    shutil.copytree(runs, folder, dirs_exist_ok=True)
    crops = [make_spec("crop", seed) for seed in seeds]
    for spec in crops:
        run = make_run(folder, spec)
        clean = sentences(run.records("val"))
        run.write_records("val", clean)
        for condition in conditions:
            write_results(run, "val", condition, worse(clean, 0.5))
    return specs, crops


def test_a_strategy_of_one_seed_leaves_the_others_theirs(evaluated, tmp_path):
    specs, crops = extended(evaluated, tmp_path, 1, 7)
    before = table_of(gathered(evaluated[0], specs))
    every = gathered(tmp_path, [*specs, *crops])
    table = table_of(every)
    for label in ("baseline", "+MaskRIS"):
        for name in ("clean", "fog", "mpc", "rpc"):
            old = before[(before["strategy"] == label) & (before["name"] == name)]
            new = table[(table["strategy"] == label) & (table["name"] == name)]
            columns = ["seeds", "points", "mean", "low", "high", "difference", "compared"]
            pd.testing.assert_frame_equal(
                old[columns].reset_index(drop=True), new[columns].reset_index(drop=True)
            )
    (crop,) = {*table["strategy"]} - {"baseline", "+MaskRIS"}
    row = pick(table, name="mpc", strategy=crop, metric="oiou")
    own, partner = (
        [oiou(read_results(RunDir(tmp_path / spec.key), "val", its)) for its in CONDITIONS[:4]]
        for spec in (crops[0], specs[1])
    )
    assert row["seeds"] == (1,) and row["compared"] == "these two checkpoints"
    assert row["difference"] == pytest.approx(np.mean(own) - np.mean(partner))
    (line,) = [line for line in words._left_out(every[0]) if "no run with this seed" in line]
    assert crops[1].key in line and not any(spec.key in line for spec in [*specs, crops[0]])


def test_a_run_without_conditions_takes_none_from_the_others(evaluated, tmp_path):
    specs, crops = extended(evaluated, tmp_path, 0, conditions=())
    (results,) = gathered(tmp_path, [*specs, *crops])
    assert [*results.records] == ["baseline", "+MaskRIS"] and results.conditions
    assert results.without == (crops[0].key,) and not results.missing
    assert any(
        "not evaluated on val" in line and crops[0].key in line for line in words._left_out(results)
    )
    labels = {run.spec.strategy.name for run, _ in results.pairs("baseline")}
    assert labels == {"maskris"}
    collected = collect(plan([*specs, *crops]), tmp_path)
    assert finished(collected, tmp_path).conditions == len(CONDITIONS) + 1  # and words


def test_undefined_resamples_are_counted_and_said(tmp_path):
    """rPC does not exist in a resample of images in which the clean score is 0."""
    specs = [make_spec(strategy, 0) for strategy in BOTH]
    for spec in specs:
        run = make_run(tmp_path, spec)
        clean = sentences(run.records("val"))
        alone = clean["image_id"] == 3
        run.write_records(
            "val", clean := clean.assign(intersection=clean["intersection"].where(alone, 0))
        )
        run.write_json(
            "result.json", run.read_json("result.json") | {"val": canonical(metrics.compute(clean))}
        )
        write_results(run, "val", CONDITIONS[0], worse(clean, 0.5))
    every = gathered(tmp_path, specs, CONDITIONS[:1])
    table = table_of(every)
    images = clean["image_id"].nunique()
    drawn = generator("bootstrap").integers(images, size=(bootstrap.RESAMPLES, images))
    expected = int((drawn != 3).all(axis=1).sum())
    row = pick(table, name="rpc", strategy="+MaskRIS", metric="oiou")
    assert row["undefined"] == expected > 100
    assert pick(table, name="mpc", strategy="+MaskRIS", metric="oiou")["undefined"] == 0
    (said,) = [line for line in words.definitions(every, table, None) if "resamples, for" in line]
    assert f"rpc oIoU of refshapes val cris tiny +MaskRIS ({expected})" in said


def test_an_image_that_a_corruption_could_not_take_enters_no_number(tmp_path):
    runs, specs = tmp_path, [make_spec(strategy, 0) for strategy in BOTH]
    for spec in specs:
        clean = sentences(make_run(runs, spec, better=0.1).records("val"))
        RunDir(runs / spec.key).write_records("val", clean)
        small = int(clean["image_id"].iloc[0])
        taken = clean[clean["image_id"] != small].reset_index(drop=True)
        write_results(RunDir(runs / spec.key), "val", CONDITIONS[0], worse(taken, 0.5), [small])
        write_results(RunDir(runs / spec.key), "val", CONDITIONS[5], worse(clean, 0.7))
    (results,) = gathered(runs, specs, [CONDITIONS[0], CONDITIONS[5]])
    assert results.left_out == (small,)
    for by_seed in results.records.values():
        assert all(
            set(table["image_id"]) == set(taken["image_id"]) for table in by_seed[0].values()
        )
    table = table_of([results])
    row = table[(table["kind"] == "clean") & (table["strategy"] == "baseline")]
    assert len(row)
    assert f"Images {small} of val are too small" in "\n".join(words._left_out(results))


def test_records_about_other_expressions_are_refused(evaluated, tmp_path):
    import shutil

    runs, specs = evaluated
    shutil.copytree(runs, tmp_path / "runs")
    run = RunDir(tmp_path / "runs" / specs[0].key)
    write_results(run, "val", CONDITIONS[0], read_results(run, "val", "fog-1").iloc[1:])
    with pytest.raises(UserError, match="fog-1.parquet is not about the expressions"):
        gathered(tmp_path / "runs", specs)


def test_what_casts_doubt_on_the_plan_and_the_pairs_is_said(tmp_path):
    specs = [make_spec("baseline"), make_spec("maskris")]
    for number, spec in enumerate(specs):
        environment = {"numerics": {"device": "cpu", "threads": 1 + number}}
        run = make_run(tmp_path, spec, environment=environment)
        write_results(run, "val", CONDITIONS[0], worse(run.records("val"), 0.5))
    write_plan(tmp_path, plan(specs))
    changed = write_plan(tmp_path, plan(specs, margin=2.0))
    every = gather(collect(changed, tmp_path), tmp_path, ["val"], CONDITIONS[:1])
    text = "\n".join(words.definitions(every, table_of(every), None))
    assert "threads 2 and 1" in text and "margin was 0.5" in text


def test_the_family_is_what_was_planned_and_not_what_is_finished(tmp_path):
    """With four planned comparisons of two summaries each, the least p-value counts eight times."""
    specs = [make_spec(strategy, seed) for strategy in BOTH for seed in (0, 1, 2)]
    for spec in specs:
        run = make_run(tmp_path, spec)
        kept = {"baseline": 0.60, "maskris": 0.61}[spec.strategy.name]
        clean = run.records("testA")
        write_results(run, "testA", CONDITIONS[0], worse(clean, kept + 0.002 * spec.seed))
    every = gather(collect(plan(specs), tmp_path), tmp_path, ["testA"], CONDITIONS[:1])
    judged = table_of(every).query("kind == 'summary' and verdict != ''")
    planned = table_of(every, None, comparisons=4).query("kind == 'summary' and verdict != ''")
    assert [*judged["name"]] == ["mpc", "rpc"]
    assert judged["p_holm"].min() == pytest.approx(min(1, 2 * judged["p"].min()))
    assert planned["p_holm"].min() == pytest.approx(min(1, 8 * judged["p"].min()))
    assert planned["p_holm"].min() > judged["p_holm"].min()
