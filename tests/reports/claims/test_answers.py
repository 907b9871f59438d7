"""What constructed runs say to claims: each kind goes through each status."""

import io
import json
import shutil

import pandas as pd
import pytest
from rich.console import Console

from benchmark.base.errors import UserError
from benchmark.evaluation import metrics
from benchmark.evaluation.published_scores import counts_path
from benchmark.evaluation.verdict import Estimate, judge
from reports.claims import evidence, report
from reports.claims.claims import read_claims
from reports.claims.evidence import Evidence
from reports.claims.finished import FinishedRuns
from reports.claims.table import answered, needs_work
from reports.layout import files
from tests.planning import caris
from tests.reports.claims import runs as constructed
from tests.reports.claims.asking import answer, claim, claims
from tests.reports.claims.runs import corrupt, finish, measure, tiny

SIGN = "maskris-table-2-lavt-maskris-refcoco-testa-oiou"
VALUE = "maskris-table-2-lavt-maskris-refcoco-testa-oiou-value"
ABLATION = "maskris-table-3-im-dcl-refcoco-val-oiou"


def pairs(runs, name, differences, base=0.70, **more):
    """Finish a pair of runs for every difference of a sign claim's arms."""
    (part,) = claim(name).parts
    for seed, difference in enumerate(differences):
        finish(runs, part.than, seed, base, **more)
        finish(runs, part.better, seed, base + difference, **more)


# --- signs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "status"),
    [
        ((0.03, 0.031, 0.032), "confirmed"),
        ((-0.03, -0.031, -0.032), "contradicted"),
        ((0.0, 0.0005, -0.0005), "no relevant difference"),
        ((0.05, -0.04, 0.02), "undecided"),
        ((0.03, 0.03), "undecided"),
        ((), "not run"),
    ],
)
def test_a_sign_goes_through_each_status(tmp_path, differences, status):
    pairs(tmp_path, SIGN, differences, only=("testA",))
    found = answer(tmp_path, SIGN)
    assert found.status == found.qualified == status
    assert needs_work(found) == (status in ("undecided", "not run"))
    if len(differences) == 2:
        assert found.why == "it takes 3 seed pairs and has 2"


def test_the_verdict_counts_the_whole_published_table(tmp_path):
    """The p-value is that of the function `judge` in a family of 14, whatever else has run."""
    pairs(tmp_path, SIGN, (0.010, 0.013, 0.008), only=("testA",))
    found = answer(tmp_path, SIGN)
    estimate: Estimate = found.found.mean.estimate
    (alone,), (inside,) = judge([estimate], 0.005), judge([estimate], 0.005, 14)
    assert found.p == inside.p == pytest.approx(14 * alone.p)
    assert len(found.found.runs) == 6


def test_a_claim_on_val_says_so_and_has_the_test_splits_beside(tmp_path):
    pairs(tmp_path, ABLATION, (0.03, 0.031, 0.032))
    found = answer(tmp_path, ABLATION)
    assert found.status == "confirmed"
    assert found.qualified == "confirmed, on val, which chose the epoch"
    assert [split for split, _ in found.beside] == ["testA", "testB"]
    assert all(its.mean.value == pytest.approx(0.031, abs=2e-3) for _, (its,) in found.beside)


def test_other_data_or_networks_answer_nothing_and_are_shown(tmp_path):
    """RefShapes, `tiny` and a folder called refcoco with 40 expressions are no RefCOCO."""
    (part,) = claim(SIGN).parts
    for seed in range(3):
        finish(tmp_path, tiny(part.than), seed, 0.5, only=("val", "testA"))
        finish(tmp_path, tiny(part.better), seed, 0.6, only=("val", "testA"))
        finish(tmp_path, part.than, seed, 0.5, only=("testA",), expressions=40, sha="b" * 64)
        finish(tmp_path, part.better, seed, 0.6, only=("testA",), expressions=40, sha="b" * 64)
    found = answer(tmp_path, SIGN)
    assert found.status == "not run"
    (other,) = [its for its in found.elsewhere if "refshapes" in its.where]
    assert other.where == "lavt tiny on refshapes testA"
    assert other.found.mean.value == pytest.approx(0.1, abs=0.02)
    assert len(other.found.mean.per_seed) == 3


def test_a_run_that_trained_on_fewer_refs_is_no_evidence(tmp_path):
    (part,) = claim(SIGN).parts
    for arm in (part.better, part.than):
        run = finish(tmp_path, arm, 0, 0.7, only=("testA",))
        run.write_status("done", step=9, steps=9)
    assert answer(tmp_path, SIGN).status == "not run"


def test_another_recipe_is_another_run(tmp_path):
    (part,) = claim(SIGN).parts
    spec = part.better.spec
    longer = spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"epochs": 41})})
    finish(tmp_path, part.than, 0, 0.7, only=("testA",))
    finish(tmp_path, type(part.better)("x", longer, {}, ""), 0, 0.7, only=("testA",))
    assert answer(tmp_path, SIGN).status == "not run"


def test_runs_on_different_data_are_not_averaged(tmp_path):
    pairs(tmp_path, SIGN, (0.03, 0.03, 0.03), only=("testA",))
    (part,) = claim(SIGN).parts
    for arm, share in ((part.better, 0.1), (part.than, 0.9)):
        finish(tmp_path, arm, 7, share, only=("testA",), sha="c" * 64)
    found = answer(tmp_path, SIGN)
    assert found.status == "confirmed" and [*found.found.mean.per_seed] == [0, 1, 2]


# --- values ---------------------------------------------------------------------------------------


def values(runs, shares):
    arm = claim(VALUE).value.arm
    for seed, share in enumerate(shares):
        run = finish(runs, arm, seed, 0.5, only=("testA",))
        measure(run, "lavt", "testA", share)


@pytest.mark.parametrize(
    ("shares", "qualified"),
    [
        ((0.7657, 0.767, 0.764), "confirmed"),
        ((0.70, 0.701, 0.699), "contradicted"),
        ((0.74, 0.79, 0.76), "undecided"),
        ((0.766,), "confirmed, this checkpoint"),
        ((0.766, 0.765), "confirmed, these two checkpoints"),
        ((0.70,), "contradicted, this checkpoint"),
        ((), "not run"),
    ],
)
def test_a_value_goes_through_each_status(tmp_path, shares, qualified):
    """The paper has 76.57, measured by LAVT's own script and not by the suite's evaluator."""
    values(tmp_path, shares)
    found = answer(tmp_path, VALUE)
    assert found.qualified == qualified
    if shares:
        assert found.found.mean.value == pytest.approx(sum(shares) / len(shares), abs=2e-3)


def test_a_run_without_the_papers_own_measurement_is_not_compared(tmp_path):
    finish(tmp_path, claim(VALUE).value.arm, 0, 0.7657, only=("testA",))
    assert answer(tmp_path, VALUE).status == "not run"


def test_counts_of_other_expressions_are_an_error(tmp_path):
    run = finish(tmp_path, claim(VALUE).value.arm, 0, 0.7, only=("testA",))
    measure(run, "lavt", "testA", 0.7)
    path = counts_path(run, "lavt", "testA")
    pd.read_parquet(path).head(50).to_parquet(path)
    assert answer(tmp_path, VALUE).why.startswith(f"{path} is damaged: delete it and run `risbench")
    path.write_bytes(b"damaged")
    found = answer(tmp_path, VALUE)
    assert found.status == "not run" and "--protocol lavt` again" in found.why


def test_counts_of_other_weights_are_not_measured(tmp_path):
    run = finish(tmp_path, claim(VALUE).value.arm, 0, 0.7657, only=("testA",))
    measure(run, "lavt", "testA", 0.7657)
    assert answer(tmp_path, VALUE).status == "confirmed"
    changed = run.records("testA")
    changed.loc[0, "intersection"] -= 1
    run.write_records("testA", changed)
    run.write_json(
        "result.json", run.read_json("result.json") | {"testA": metrics.compute(changed)}
    )
    assert answer(tmp_path, VALUE).why.endswith("are not measured by the protocol lavt yet")


# --- shown ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    runs = tmp_path_factory.mktemp("claims")
    pairs(runs, SIGN, (0.03, 0.031, 0.032), only=("testA",))
    (part,) = claim(ABLATION).parts
    for arm in (tiny(part.better), tiny(part.than)):
        finish(runs, arm, 0, 0.5, only=("val",))
    return answered(read_claims(), runs)


def test_a_claim_that_is_not_run_says_the_command_and_its_hours(shown):
    every = shown.table
    row = every.set_index("id").loc[VALUE]
    assert row["command"] == f"risbench claims run {VALUE}"
    # One seed of three is to do nowhere, since the pairs above have run with the arm's three seeds.
    assert row["runs_to_do"] == 0 and row["hours"] == 0
    row = every.set_index("id").loc["maskris-table-2-caris-maskris-refcoco-testa-oiou"]
    assert row["runs_to_do"] == 6
    assert row["hours"] == pytest.approx(3 * (caris.hours("baseline") + caris.hours("maskris")))


def test_every_format_says_the_same(shown):
    every = shown.table
    rows = json.loads(report.as_json(shown))
    assert len(rows) == len(every) == len(shown.claims.claims)
    (row,) = [row for row in rows if row["id"] == SIGN]
    assert row["status"] == "confirmed" and row["published"] == "75.82 → 76.57"
    assert "NaN" not in report.as_json(shown)
    assert f"{SIGN},MaskRIS,Table 2,,sign" in files.csv(every)
    text = report.as_markdown(shown)
    assert f"| {SIGN} " in text and "1 confirmed" in text
    assert "No run can answer" in text and "No run can confirm the value of" in text
    assert "caris tiny on refshapes val" in text


def test_the_terminal_shows_ids_whole(shown):
    every = shown.table
    console = Console(width=120, record=True, file=io.StringIO())
    report.render(console, shown, 120)
    text = console.export_text()
    assert all(name in text for name in every["id"])
    assert "answer no claim" in text and "risbench claims run ID" in text


# --- what a second reading found ------------------------------------------------------------------


def test_patch_sizes_are_compared_apart(tmp_path):
    """Seeds of one difference come from one setting, however many share the strategy's name."""
    (part,) = claim("maskris-table-2-caris-maskris-refcoco-testa-oiou").parts
    for seed in range(3):
        finish(tmp_path, tiny(part.than), seed, 0.5, only=("val", "testA"))
        for size, share in ((8, 0.6), (16, 0.7)):
            finish(tmp_path, tiny(part.better, size), seed, share, only=("val", "testA"))
    found = answer(tmp_path, "maskris-table-2-caris-maskris-refcoco-testa-oiou").elsewhere
    where = "caris tiny on refshapes testA, patch_size"
    assert {its.where: round(its.found.mean.value, 1) for its in found} == {
        f"{where} 8": 0.1,
        f"{where} 16": 0.2,
    }


def test_another_recipe_elsewhere_says_so(tmp_path):
    (part,) = claim(SIGN).parts
    for arm, share in ((part.better, 0.7), (part.than, 0.6)):
        finish(tmp_path, arm, 0, share, only=("testA",), learning_rate=1e-5)
    (other,) = answer(tmp_path, SIGN).elsewhere
    assert other.where == "lavt paper on refcoco testA, another recipe"


STEP_2 = "maskris-table-2-tris-step-2-maskris-refcoco-testa-miou"


@pytest.mark.parametrize(("made", "status"), [(True, "confirmed"), (False, "not run")])
def test_targets_must_be_made_by_the_run_that_the_claim_names(tmp_path, made, status):
    (part,) = claim(STEP_2).parts
    for seed in range(3):
        maker = finish(tmp_path, part.than.targets, seed, 0.4, only=("testA",)).key
        for arm, share in ((part.than, 0.5), (part.better, 0.53 + 0.001 * seed)):
            targets = maker if made else f"sag-tiny-something-{seed}"
            finish(tmp_path, arm, seed, share, only=("testA",), pseudo_masks=targets)
    found = answer(tmp_path, STEP_2)
    assert found.status == status
    assert made or "were not made by a run of this claim" in found.why


def test_combined_training_of_a_few_steps_is_no_evidence(tmp_path):
    name = "maskris-table-1-caris-maskris-combined-refcoco-testa-oiou"
    (part,) = claim(name).parts
    for seed in range(3):
        for arm, share in ((part.than, 0.6), (part.better, 0.7)):
            run = finish(tmp_path, arm, seed, share, only=(part.split,))
            if seed < 2:
                run.write_status("done", step=5, steps=5)
    found = answer(tmp_path, name)
    assert [*found.found.mean.per_seed] == [2]


def test_val_of_the_combined_set_chose_the_epoch_where_it_is_its_own():
    on = {
        claim.dataset: claim.on_val
        for claim in claims()
        if claim.id.startswith("maskris-table-1-caris-maskris-combined-") and claim.on_val
    }
    assert on == {
        "refcoco:unc": "on val, which chose the epoch",
        "refcoco+:unc": "on val, which is no test split",
        "refcocog:umd": "on val, which is no test split",
    }


def test_a_copied_folder_is_no_further_seed(tmp_path):
    pairs(tmp_path, SIGN, (0.03, 0.031), only=("testA",))
    (part,) = claim(SIGN).parts
    for arm in (part.better, part.than):
        key = finish(tmp_path, arm, 0, 0.7, only=("testA",)).key
        copy = tmp_path / f"{key}.bak"
        shutil.copytree(tmp_path / key, copy)
        spec = (copy / "spec.yaml").read_text()
        (copy / "spec.yaml").write_text(spec.replace("seed: 0", "seed: 9"))
    assert [*answer(tmp_path, SIGN).found.mean.per_seed] == [0, 1]


def test_a_damaged_run_is_left_out_and_named(tmp_path):
    pairs(tmp_path, SIGN, (0.03, 0.031, 0.032, 0.03), only=("testA",))
    (part,) = claim(SIGN).parts
    key = finish(tmp_path, part.better, 3, 0.7, only=("testA",)).key
    (tmp_path / key / "records" / "testA.parquet").write_bytes(b"damaged")
    said = answered(read_claims(), tmp_path, choose=lambda its: its.id == SIGN)
    assert said.table["seeds"].tolist() == [(0, 1, 2)] and key in said.damaged
    assert f"Run {key} is left out" in report.as_markdown(said)


def test_a_seed_without_corruptions_leaves_the_others_measured(tmp_path, monkeypatch):
    for module in (evidence, constructed):
        monkeypatch.setattr(module, "SEVERITIES", (2,))
    part = claim("maskris-corruptions").parts[0]
    for seed in range(2):
        for arm, share in ((part.better, 0.65), (part.than, 0.6)):
            run = finish(tmp_path, arm, seed, 0.7, only=("val",))
            if seed == 0:
                corrupt(run, "val", part.corruption, share)
    its = claims()
    found = Evidence(tmp_path, FinishedRuns(tmp_path, its)).comparison(part)
    assert [*found.mean.per_seed] == [0]


def test_what_is_missing_is_said(tmp_path):
    (part,) = claim(SIGN).parts
    for arm in (part.better, part.than):
        finish(tmp_path, arm, 0, 0.7, only=("val",))
    assert answer(tmp_path, SIGN).why == "the finished runs of LAVT + MaskRIS do not report testA"
    for arm in (part.better, part.than):
        finish(tmp_path, arm, 0, 0.7, only=("testA",), expressions=100)
    assert answer(tmp_path, SIGN).why == "testA has 100 expressions, and the published one 5657"
    every = answered(read_claims(), tmp_path, choose=lambda its: its.id == SIGN).table
    assert every["runs_to_do"].item() == 6 and every["hours"].item() > 100


def test_hours_are_of_one_card_and_odd_costs_are_named(tmp_path):
    name = "maskris-table-2-caris-maskris-refcoco-testa-oiou"
    (part,) = claim(name).parts
    run = finish(tmp_path, part.than, 0, 0.7, only=("testA",))
    run.write_json("costs.json", {"training_seconds": 3600.0})
    run.write_json("environment.json", {"git": {"commit": "c", "dirty": False}, "numerics": {}})

    def hours():
        return (
            answered(read_claims(), tmp_path, choose=lambda its: its.id == name)
            .table["hours"]
            .item()
        )

    maskris = 3 * caris.hours("maskris")
    assert hours() == pytest.approx(2 * 1 + maskris, rel=1e-3)
    environment = run.read_json("environment.json") | {"numerics": {"processes": 2}}
    run.write_json("environment.json", environment)
    assert hours() == pytest.approx(2 * 2 + maskris, rel=1e-3)
    run.write_json("costs.json", {"parameters": 1})
    assert hours() == pytest.approx(2 * caris.hours("baseline") + maskris, rel=1e-3)
    run.write_json("costs.json", {"training_seconds": -3})
    with pytest.raises(UserError, match="costs.json is damaged"):
        hours()
