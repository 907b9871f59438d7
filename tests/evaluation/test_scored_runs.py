"""Run directories of predictions: two writers, kills, and what makes a key stand for one thing."""

import numpy as np
import pandas as pd
import pytest

from benchmark.base.errors import UserError
from benchmark.data import datasets
from benchmark.evaluation import scored_runs
from benchmark.evaluation.predicted_masks import PredictedMasks, run_lengths
from benchmark.evaluation.prediction_files import write_predictions
from benchmark.evaluation.prediction_reading import read_predictions as read
from benchmark.evaluation.scored_runs import score_into
from benchmark.runs.predictions import PredictionsSpec, StandsFor
from benchmark.runs.rundir import RunDir


@pytest.fixture(scope="module")
def dataset(boxes):
    return datasets.read("refcoco", "unc", boxes)


def spec_of(dataset, name="mine", **more):
    return PredictionsSpec(
        name=name,
        dataset=dataset.name,
        split_by=dataset.split_by,
        data_sha256=dataset.digest(),
        **more,
    )


def masks_of(dataset, split, left=0):
    """Return masks that mark everything from a column on."""
    sizes, codes = {}, {}
    for ref in dataset.refs_of(split):
        info = dataset.info(ref.image_id)
        polygon = [[left, 0, info.width, 0, info.width, info.height, left, info.height]]
        for sentence in ref.sentences:
            sizes[sentence.sent_id] = (info.height, info.width)
            codes[sentence.sent_id] = run_lengths(polygon, info.height, info.width)
    return PredictedMasks(sizes, codes)


def test_a_split_that_another_writer_adds_meanwhile_is_kept(dataset, tmp_path, monkeypatch):
    spec, score = spec_of(dataset), scored_runs.score

    def slowly(its, split, *more):
        if split == "val":  # While it is scored, another command scores testA.
            score_into(tmp_path, spec, dataset, "testA", masks_of(dataset, "testA"))
        return score(its, split, *more)

    monkeypatch.setattr(scored_runs, "score", slowly)
    its = score_into(tmp_path, spec, dataset, "val", masks_of(dataset, "val"))
    assert {*its.run.any_spec().splits} == {"val", "testA"}
    assert {*its.run.read_json("result.json")} == {"val", "testA"}
    assert its.run.checked_status(["*"]).state == "done"


@pytest.mark.parametrize("name", ["write_masks", "write_json", "write_spec"])
def test_a_kill_leaves_nothing_or_the_splits_before(name, dataset, tmp_path, monkeypatch):
    spec = spec_of(dataset)

    def killed(*_):
        raise KeyboardInterrupt

    for split, before in (("val", []), ("testA", ["val"])):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(RunDir, name, killed)
            score_into(tmp_path, spec, dataset, split, masks_of(dataset, split))
        known = scored_runs.scored_before(RunDir(tmp_path / spec.key))
        assert [*(known.splits if known else [])] == before
        its = score_into(tmp_path, spec, dataset, split, masks_of(dataset, split))
        assert its.is_new and its.run.checked_status(["*"]).state == "done"


def test_a_row_has_one_set_of_masks_for_each_seed(dataset, tmp_path):
    row = StandsFor(method="lavt", variant="paper", strategy="baseline")
    score_into(tmp_path, spec_of(dataset, stands_for=row), dataset, "val", masks_of(dataset, "val"))
    for other in (
        spec_of(dataset, "other", stands_for=row),
        spec_of(dataset, stands_for=row, weights_sha256="a" * 64),
    ):
        with pytest.raises(UserError, match="'mine' stands for lavt/paper/baseline"):
            score_into(tmp_path, other, dataset, "val", masks_of(dataset, "val", 9))
    for other in (
        spec_of(dataset, "other", stands_for=row, seed=1),
        spec_of(dataset),  # which has a row of its own
    ):
        score_into(tmp_path, other, dataset, "val", masks_of(dataset, "val", 9))


def test_masks_of_a_table_are_those_that_it_was_made_of(dataset):
    its = masks_of(dataset, "val", 7)
    again = PredictedMasks.of(its.table())
    assert (again.sizes, again.digest()) == (its.sizes, its.digest())
    first = next(iter(its.sizes))
    without = PredictedMasks(its.sizes, {n: c for n, c in its.codes.items() if n != first})
    stored = PredictedMasks.of(without.table())
    assert not stored.mask(first).any() and without.digest() != its.digest()
    np.testing.assert_array_equal(stored.mask(max(its.sizes)), its.mask(max(its.sizes)))


@pytest.mark.parametrize("ending", ["json", "jsonl", "json.gz", "jsonl.gz", "parquet"])
def test_what_a_network_predicted_gives_its_own_records(ending, dataset, trained, tmp_path):
    """SaG cuts every map at its own middle, so even a network that learned nothing marks much."""
    run = trained("sag", "baseline")
    own, path = run.records("val"), tmp_path / f"masks.{ending}"
    assert (own["intersection"] > 0).mean() > 0.3 and own["union"].nunique() > 3
    write_predictions(path, own, run.masks("val"))
    its = score_into(tmp_path, spec_of(dataset), dataset, "val", read(path, dataset, "val"))
    pd.testing.assert_frame_equal(its.records, own, check_exact=True)
    pd.testing.assert_frame_equal(its.run.masks("val"), run.masks("val"))
