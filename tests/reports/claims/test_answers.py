"""What constructed runs say to claims: each kind goes through each status."""

import functools
import io
import json

import pandas as pd
import pytest
from rich.console import Console

from benchmark.base.errors import UserError
from benchmark.evaluation.published_scores import counts_path
from benchmark.evaluation.verdict import Estimate, judge
from benchmark.robustness.corruptions import sets
from reports.claims import evidence, report
from reports.claims.answers import answers
from reports.claims.claims import read_claims
from reports.claims.evidence import Evidence
from reports.claims.table import needs_work, table
from tests.reports.claims import runs as constructed
from tests.reports.claims.runs import corrupt, finish, measure, tiny

SIGN = "maskris-table-2-lavt-maskris-refcoco-testa-oiou"
VALUE = "maskris-table-2-lavt-maskris-refcoco-testa-oiou-value"
STATEMENT = "maskris-half-as-long"
ABLATION = "maskris-table-3-im-dcl-refcoco-val-oiou"


@functools.cache
def claims():
    return read_claims().claims


def claim(name):
    (found,) = [its for its in claims() if its.id == name]
    return found


def answer(runs, name):
    """Return the answer to one claim. The family counts all claims of its table."""
    wanted = claim(name)
    family = [its for its in claims() if its.family == wanted.family and its.family] or [wanted]
    (found,) = [its for its in answers(family, Evidence(runs, family)) if its.claim.id == name]
    return found


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
    estimate: Estimate = found.found.difference.estimate
    (alone,), (inside,) = judge([estimate], 0.005), judge([estimate], 0.005, 14)
    assert found.p == inside.p == pytest.approx(14 * alone.p)
    assert len(found.found.runs) == 6


def test_a_claim_on_val_says_so_and_has_the_test_splits_beside(tmp_path):
    pairs(tmp_path, ABLATION, (0.03, 0.031, 0.032))
    found = answer(tmp_path, ABLATION)
    assert found.status == "confirmed"
    assert found.qualified == "confirmed, on val, which chose the epoch"
    assert [split for split, _ in found.beside] == ["testA", "testB"]
    assert all(its.difference.value == pytest.approx(0.031, abs=2e-3) for _, its in found.beside)


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
    assert other.found.difference.value == pytest.approx(0.1, abs=0.02)
    assert len(other.found.difference.per_seed) == 3


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
    assert found.status == "confirmed" and [*found.found.difference.per_seed] == [0, 1, 2]


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
        assert found.found.difference.value == pytest.approx(sum(shares) / len(shares), abs=2e-3)


def test_a_run_without_the_papers_own_measurement_is_not_compared(tmp_path):
    finish(tmp_path, claim(VALUE).value.arm, 0, 0.7657, only=("testA",))
    assert answer(tmp_path, VALUE).status == "not run"


def test_counts_of_other_expressions_are_an_error(tmp_path):
    run = finish(tmp_path, claim(VALUE).value.arm, 0, 0.7, only=("testA",))
    measure(run, "lavt", "testA", 0.7)
    path = counts_path(run, "lavt", "testA")
    pd.read_parquet(path).head(50).to_parquet(path)
    with pytest.raises(UserError, match="not about the expressions of the run's records"):
        answer(tmp_path, VALUE)
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="risbench evaluate .* --protocol lavt"):
        answer(tmp_path, VALUE)


# --- statements -----------------------------------------------------------------------------------


def statement(runs, *splits):
    """Finish runs in which each difference of `splits` is that of testA and testB."""
    better, than = claim(STATEMENT).parts[0].better, claim(STATEMENT).parts[0].than
    for seed, (on_a, on_b) in enumerate(splits):
        finish(runs, than, seed, 0.7, only=("testA", "testB"))
        share = {"testA": 0.7 + on_a, "testB": 0.7 + on_b}
        finish(runs, better, seed, share, only=("testA", "testB"))


@pytest.mark.parametrize(
    ("splits", "status"),
    [
        ([(0.03, 0.02), (0.031, 0.021), (0.032, 0.022)], "confirmed"),
        ([(0.03, -0.03), (0.031, -0.031), (0.032, -0.032)], "contradicted"),
        ([(0.03, 0.0), (0.031, 0.0004), (0.032, -0.0004)], "no relevant difference"),
        ([(0.03, 0.05), (0.031, -0.04), (0.032, 0.02)], "undecided"),
        ([(0.03, 0.03)], "undecided"),
        ([], "not run"),
    ],
)
def test_a_statement_goes_through_each_status(tmp_path, splits, status):
    statement(tmp_path, *splits)
    found = answer(tmp_path, STATEMENT)
    assert found.status == status
    if len(splits) == 1:
        assert found.why == "it takes 3 seed pairs, and a part has 1"


def test_all_corruptions_means_each_of_the_17(tmp_path, monkeypatch):
    for module in (evidence, constructed):  # Two of five severities take less time.
        monkeypatch.setattr(module, "SEVERITIES", (2, 4))
    name = "maskris-corruptions"
    first = claim(name).parts[0]
    runs = {}
    for side in ("better", "than"):
        arm = getattr(first, side)
        runs[side] = [finish(tmp_path, arm, seed, 0.7, only=("val",)) for seed in range(3)]
    names = sets()["maskris"]
    for corruption in names[:-1]:
        for side, share in (("better", 0.63), ("than", 0.60)):
            for seed, run in enumerate(runs[side]):
                corrupt(run, "val", corruption, share + 0.001 * seed)
    found = answer(tmp_path, name)
    assert found.status == "not run" and found.why == "1 of its 17 parts have no runs"
    assert found.parts == "16 of 17 parts confirmed"
    for side, share in (("better", 0.60), ("than", 0.63)):
        for seed, run in enumerate(runs[side]):
            corrupt(run, "val", names[-1], share + 0.001 * seed)
    found = answer(tmp_path, name)
    assert found.status == "contradicted"
    assert found.qualified == "contradicted, on val, which chose the epoch"


# --- shown ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    runs = tmp_path_factory.mktemp("claims")
    pairs(runs, SIGN, (0.03, 0.031, 0.032), only=("testA",))
    (part,) = claim(ABLATION).parts
    for arm in (tiny(part.better), tiny(part.than)):
        finish(runs, arm, 0, 0.5, only=("val",))
    known = read_claims()
    found = Evidence(runs, known.claims)
    return known, table(answers(known.claims, found), found)


def test_a_claim_that_is_not_run_says_the_command_and_its_hours(shown):
    _, every = shown
    row = every.set_index("id").loc[VALUE]
    assert row["command"] == f"risbench claims run {VALUE}"
    # One seed of three is to do nowhere, since the pairs above have run with the arm's three seeds.
    assert row["runs_to_do"] == 0 and row["hours"] == 0
    row = every.set_index("id").loc["maskris-table-2-caris-maskris-refcoco-testa-oiou"]
    # MaskRIS, App. A.2: 18.4 h for 50 epochs and 16.7 h for 25, on two cards, three seeds each.
    assert row["runs_to_do"] == 6
    assert row["hours"] == pytest.approx(3 * 2 * (18.4 + 2 * 16.7), rel=0.01)


def test_every_format_says_the_same(shown):
    known, every = shown
    rows = json.loads(report.as_json(every))
    assert len(rows) == len(every) == len(known.claims)
    (row,) = [row for row in rows if row["id"] == SIGN]
    assert row["status"] == "confirmed" and row["published"] == "75.82 → 76.57"
    assert "NaN" not in report.as_json(every)
    assert f"{SIGN},MaskRIS,Table 2,sign" in report.as_csv(every)
    text = report.as_markdown(every, known)
    assert f"| {SIGN} " in text and "1 confirmed" in text
    assert "424 numbers" in text or "wait for the method" in text
    assert "caris tiny on refshapes val" in text


def test_the_terminal_shows_ids_whole(shown):
    _, every = shown
    console = Console(width=120, record=True, file=io.StringIO())
    report.render(console, every, 120)
    text = console.export_text()
    assert all(name in text for name in every["id"])
    assert "answer no claim" in text and "risbench claims run ID" in text


def test_filters_choose_by_paper_place_and_status(shown):
    _, every = shown
    assert {*report.chosen(every, ["CARIS"], [], [])["paper"]} == {"CARIS"}
    both = report.chosen(every, [], ["Table D"], [])
    # The value of CARIS + MaskRIS is printed in Table 1 first, and in Table D, too.
    assert "maskris-table-1-caris-maskris-refcoco-val-oiou-value" in [*both["id"]]
    assert [*report.chosen(every, [], [], ["confirmed"])["id"]] == [SIGN]
