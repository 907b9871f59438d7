"""What a plan can decide: taken from finished pairs where there are any, else assumed and said."""

import numpy as np
import pytest

import methods
from benchmark.evaluation import bootstrap, verdict
from benchmark.planning import power
from benchmark.runs.comparisons import planned_comparisons, role
from tests.planning import caris
from tests.reports.fakes import make_run, make_spec, plan

BOTH = ("baseline", "maskris")


def specs_of(seeds, methods=("cris",)):
    return [make_spec(name, seed, method) for method in methods for name in BOTH for seed in seeds]


def test_without_finished_runs_it_is_assumed(tmp_path):
    specs = specs_of((0, 1, 2))
    (found,) = power.decidable(plan(specs), specs, tmp_path, wanted=0.03)
    assert (found.spread.source, found.pairs) == ("assumed", 3)
    spread = (power.ASSUMED_SEED_DEVIATION, power.ASSUMED_IMAGE_ERROR)
    assert found.difference == verdict.detectable(3, *spread, family=1)
    assert found.seeds == verdict.seeds_to_detect(0.03, *spread, family=1)


def test_finished_pairs_say_how_uncertain_a_difference_is(tmp_path):
    specs = specs_of((0, 1, 2))
    for spec in specs:
        make_run(tmp_path, spec)
    (found,) = power.decidable(plan(specs), specs, tmp_path)
    records = [
        {seed: make_run(tmp_path, make_spec(name, seed)).records("testA") for seed in (0, 1, 2)}
        for name in BOTH
    ]
    estimate = bootstrap.paired_differences(*records, names=["oiou"])["oiou"].estimate
    assert found.spread.source == "finished pairs here"
    assert found.spread.seed_deviation == pytest.approx(estimate.seed_deviation)
    assert found.spread.image_error == pytest.approx(estimate.image_error, rel=0.15)


def test_the_hours_of_the_seeds_are_those_of_finished_runs_or_of_a_known_card(tmp_path):
    specs = specs_of((0, 1, 2))
    (found,) = power.decidable(plan(specs), specs, tmp_path, wanted=0.03)
    assert found.seeds and found.hours is None, "nobody knows how long `tiny` takes here"
    for spec, seconds in zip(specs, (36, 36, 36, 72, 72, 72), strict=True):
        make_run(tmp_path, spec).write_json("costs.json", {"training_seconds": seconds})
    (found,) = power.decidable(plan(specs), specs, tmp_path, wanted=0.9)
    assert found.hours == pytest.approx(found.seeds * (0.01 + 0.02))
    assert found.hours_from == "as long as finished runs"

    paper = [as_published(spec) for spec in specs]
    (found,) = power.decidable(plan(paper), paper, tmp_path / "none", wanted=0.03)
    both = caris.hours("baseline") + caris.hours("maskris")
    assert found.hours == pytest.approx(found.seeds * both)
    assert found.hours_from == "by steps measured on one NVIDIA H100 80GB HBM3"


def as_published(spec):
    """Return CARIS at its published size on RefCOCO, with the strategy and seed of a spec."""
    definition = methods.definition("caris")
    update = {"method": "caris", "variant": "paper", "dataset": "refcoco"}
    update |= {"network": definition.variants["paper"], "recipe": definition.recipes["paper"]}
    return spec.model_copy(update=update)


def test_one_pair_gives_the_error_of_the_images_alone(tmp_path):
    specs = specs_of((0,))
    for spec in specs:
        make_run(tmp_path, spec)
    (found,) = power.decidable(plan(specs), specs, tmp_path)
    assert "deviation assumed" in found.spread.source and np.isnan(found.difference)
    assert found.spread.seed_deviation == power.ASSUMED_SEED_DEVIATION


def test_the_planned_seeds_count_whatever_is_run_now(tmp_path):
    specs = specs_of((0, 1, 2))
    (found,) = power.decidable(plan(specs), specs[:1], tmp_path)
    assert found.pairs == 3 and not np.isnan(found.difference)


def test_a_larger_plan_needs_a_larger_difference(tmp_path):
    one, two = specs_of((0, 1, 2)), specs_of((0, 1, 2), ("cris", "lavt"))
    (alone,) = power.decidable(plan(one), one, tmp_path)
    among, _ = power.decidable(plan(two), two, tmp_path)
    assert among.difference > alone.difference


def test_comparisons_are_planned_on_test_splits_alone():
    specs = specs_of((0, 1))
    planned = planned_comparisons(plan(specs), specs)
    assert [(its.strategy, its.split) for its in planned] == [("maskris", "testA")]
    # Of a set on which no run has begun, the registry knows the test splits.
    assert [its.split for its in planned_comparisons(plan(specs), [])] == ["testA", "testB"]
    assert [role(specs[0], split) for split in ("val", "testA", "refcoco.unc.testB")] == [
        "chosen on",
        "test",
        "test",
    ]
    assert role(specs[0], "refcoco.unc.val") == "other"
    # The val of the combined set is RefCOCO's, so that one chose the epoch under both names.
    combined = specs[0].model_copy(update={"dataset": "combined"})
    assert role(combined, "refcoco.unc.val") == "chosen on"
    assert role(combined, "refcoco+.unc.val") == "other"
