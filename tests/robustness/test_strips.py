"""Masks under conditions: which are stored, and the strips that show them without a network."""

import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.evaluation import inference, masks
from benchmark.robustness.corruptions import Condition, corrupt
from benchmark.robustness.covered_words import CoveredWords
from benchmark.robustness.results import examples, masks_path, read_masks, read_results
from benchmark.robustness.strips import Wanted, has_masks, strip
from tests.robustness.asking import CONDITIONS, ask, opened

FOG = [Condition("fog", 2), Condition("fog", 5)]


@pytest.fixture(scope="module")
def asked(trained, tmp_path_factory):
    """Return two runs of one data set that were evaluated under several conditions."""
    from tests.helpers import copied

    folder = tmp_path_factory.mktemp("asked")
    runs = copied(folder, *(trained(name, "baseline") for name in ("cris", "lavt")))
    ask(runs, [*CONDITIONS, *FOG, CoveredWords()])
    return runs


def data(run):
    return opened(run).data(run.spec())


def test_examples_are_drawn_from_the_data_alone(asked):
    chosen = examples(data(asked[0]), "val")
    by_image = {
        sentence.sent_id: ref.image_id
        for ref in data(asked[0]).refs_of("val")
        for sentence in ref.sentences
    }
    assert chosen <= by_image.keys() and chosen == examples(data(asked[1]), "val")
    assert len({by_image[sent_id] for sent_id in chosen}) == len(chosen) == 2
    assert examples(data(asked[0]), "testA").isdisjoint(chosen)


def test_stored_masks_give_the_records_of_their_expressions(asked):
    for run in asked:
        dataset = data(run)
        refs = {
            sentence.sent_id: ref for ref in dataset.refs_of("val") for sentence in ref.sentences
        }
        for condition in [*CONDITIONS, *FOG]:
            records = read_results(run, "val", condition).set_index("sent_id")
            stored = masks.codes(read_masks(run, "val", condition))
            assert stored.keys() == examples(dataset, "val")
            for sent_id, code in stored.items():
                counted = masks.overlap(masks.decode(code), dataset.target(refs[sent_id]))
                assert counted == tuple(records.loc[sent_id, ["intersection", "union"]])
        # A covered word makes another sentence with the same number.
        assert not masks_path(run, "val", CoveredWords()).exists()


def test_a_strip_runs_no_network(asked, monkeypatch):
    monkeypatch.setattr(inference, "load", lambda *_: pytest.fail("a network was loaded"))
    conditions = [str(condition) for condition in FOG]
    assert all(has_masks(run, "val", conditions) for run in asked)
    assert not has_masks(asked[0], "val", ["fog-1"])
    dataset = data(asked[0])
    sent_id = min(examples(dataset, "val"))
    keys = {run.spec().method: run.key for run in asked}
    wanted = Wanted("strip", "title", keys, "val", "fog", (2, 5), sent_id)
    shown = strip(wanted, asked[0].path.parent, opened)
    assert list(shown.images) == [0, 2, 5]
    (image_id,) = asked[0].records("val").query(f"sent_id == {sent_id}")["image_id"]
    expected = corrupt(dataset.image(image_id), "fog", 5, image_id)
    np.testing.assert_array_equal(shown.images[5], expected)
    for run in asked:
        for severity, iou in shown.ious[run.spec().method].items():
            records = (
                read_results(run, "val", f"fog-{severity}") if severity else run.records("val")
            )
            (row,) = records[records["sent_id"] == sent_id].itertuples()
            assert iou == (row.intersection / row.union if row.union else 0)


def test_masks_that_are_lost_are_named(asked):
    with pytest.raises(UserError, match="fog-3.*missing or damaged: delete"):
        read_masks(asked[0], "val", "fog-3")
