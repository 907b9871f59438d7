"""The spec of predictions: its key, and what it shares with the spec of a trained run."""

import pytest

from benchmark.base.errors import UserError
from benchmark.runs.predictions import PredictionsSpec, ScoredSplit, StandsFor
from benchmark.runs.rundir import RunDir

PLAIN = {"name": "mine", "dataset": "refcoco", "split_by": "unc", "data_sha256": "a" * 64}
ROW = StandsFor(method="lavt", variant="paper", strategy="maskris")
SCORED = ScoredSplit(masks_sha256="b" * 64, expressions=5)


def spec(**changes):
    return PredictionsSpec(**PLAIN | changes)


def test_a_key_holds_all_but_the_splits():
    assert spec().key == "mine-refcoco-s0-a53cd8b5d8", "keys never change"
    changed = [
        spec(name="other"),
        spec(dataset="refcoco+"),
        spec(split_by="umd"),
        spec(seed=1),
        spec(stands_for=ROW),
        spec(weights_sha256="c" * 64),
        spec(data_sha256="d" * 64),
    ]
    assert len({its.key for its in (spec(), *changed)}) == 8
    assert spec().with_split("val", SCORED).key == spec().key
    assert spec(stands_for=ROW).key.startswith("lavt-paper-maskris-mine-refcoco-s0-")


def test_it_is_read_as_it_was_written(tmp_path):
    its = spec(stands_for=ROW, seed=2).with_split("val", SCORED).with_split("testA", SCORED)
    run = RunDir(tmp_path / its.key)
    run.create(its)
    assert run.any_spec() == its and run.kind == "predictions"
    assert its.selection.report == ("val", "testA")
    with pytest.raises(UserError, match="made elsewhere"):
        run.spec()


def test_predictions_of_a_row_are_compared_whatever_their_name_and_strategy():
    other = StandsFor(method="lavt", variant="paper", strategy="baseline")
    one, two = spec(stands_for=ROW, seed=1), spec(stands_for=other, name="two", seed=2)
    assert one.comparable() == two.comparable()
    assert spec().comparable() != spec(name="two").comparable()
    assert spec().comparable() == spec(seed=1).with_split("val", SCORED).comparable()


@pytest.mark.parametrize(
    "changes",
    [{"name": "../up"}, {"dataset": "a/b"}, {"split_by": ".."}, {"splits": {"a/b": SCORED}}],
)
def test_what_would_name_a_folder_elsewhere_is_refused(changes):
    with pytest.raises(UserError, match="cannot name a file"):
        spec(**changes)


@pytest.mark.parametrize("text", ["kind: predictions", "kind: predictions\nname: [1]", "kind: x"])
def test_a_damaged_spec_ends_in_one_sentence(text, tmp_path):
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(UserError):
        RunDir(tmp_path).any_spec()
