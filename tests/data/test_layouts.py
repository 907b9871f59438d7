"""Data sets beside RefCOCO's, in the layouts in which they are published."""

import json
import pickle

import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.data import datasets
from benchmark.data.check import check
from benchmark.data.folders import find_datasets
from tests.data.layouts import (
    BOXES,
    mask_of,
    write_grefcoco,
    write_images,
    write_refclef,
    write_rrsisd,
)
from tests.data.refer_files import write

WRITERS = {"grefcoco": write_grefcoco, "refclef": write_refclef, "rrsisd": write_rrsisd}


def read(root, entry):
    return datasets.read(*datasets.parse(entry), root)


def problems(root, name, **options):
    rows = [row for row in check(root, **options) if row.dataset == name]
    return [problem for row in rows for problem in row.problems]


@pytest.mark.parametrize("name", WRITERS)
def test_every_file_of_a_published_folder_is_found(tmp_path, name):
    WRITERS[name](tmp_path)
    assert problems(tmp_path, name, full=True) == []
    dataset = read(tmp_path, name)
    assert dataset.image(dataset.refs[0].image_id).shape == (40, 60, 3)
    assert dataset.digest() == read(tmp_path, name).digest()


def test_a_ref_of_grefcoco_names_one_object_or_several_or_none(tmp_path):
    dataset = read(write_grefcoco(tmp_path), "grefcoco")
    assert dataset.splits == ("train", "val", "testA", "testB")
    one, both, none = dataset.refs_of("val")
    assert (one.ann_ids, both.ann_ids, none.ann_ids) == ((20,), (20, 21), ())
    assert (none.ann_id, none.category_id) == (-1, -1) and both.category_id == 3
    masks = [mask_of(BOXES[0]), mask_of(*BOXES), mask_of()]
    for ref, mask in zip((one, both, none), masks, strict=True):
        np.testing.assert_array_equal(dataset.target(ref), mask)


def test_grefcoco_may_lie_there_as_a_pickle(tmp_path):
    path = write_grefcoco(tmp_path) / "grefcoco" / "grefs(unc).json"
    as_json = read(tmp_path, "grefcoco")
    path.with_suffix(".p").write_bytes(pickle.dumps(json.loads(path.read_text()), protocol=2))
    assert read(tmp_path, "grefcoco").refs == as_json.refs
    path.unlink()
    assert find_datasets(tmp_path) == {"grefcoco": ["unc"]}
    assert read(tmp_path, "grefcoco").refs == as_json.refs


def test_a_damaged_file_of_grefcoco_is_named(tmp_path):
    path = write_grefcoco(tmp_path) / "grefcoco" / "grefs(unc).json"
    refs = json.loads(path.read_text())
    path.write_text(json.dumps([refs[0], refs[1] | {"ann_id": [{}]}]))
    with pytest.raises(UserError, match=r"grefs\(unc\).json: ref number 1 is damaged"):
        read(tmp_path, "grefcoco")
    path.write_text("[{")
    assert "is damaged" in problems(tmp_path, "grefcoco")[0]


def test_refclef_has_texts_for_ids_and_a_list_of_one_rle(tmp_path):
    dataset = read(write_refclef(tmp_path), "refclef:berkeley")
    assert dataset.splits == ("train", "val", "test")
    first, second = dataset.refs_of("train")
    np.testing.assert_array_equal(dataset.target(first), mask_of(BOXES[0]))
    np.testing.assert_array_equal(dataset.target(second), mask_of(BOXES[1]))
    assert sorted(dataset.annotations_of[112]) == sorted((first.ann_id, second.ann_id))


def test_a_ref_may_be_in_several_test_splits_of_refclef(tmp_path):
    dataset = read(write_refclef(tmp_path), "refclef")
    assert dataset.splits == ("train", "val", "testA", "testB", "testC")
    assert dataset.refs_of("testA") == dataset.refs_of("testB") == [dataset.refs[2]]
    assert dataset.refs_of("testC") == [dataset.refs[3]]
    assert datasets.test_splits("refclef", "unc", dataset.splits) == ("testA", "testB", "testC")
    rows = [row for row in check(tmp_path) if row.dataset == "refclef" and row.split_by == "unc"]
    counts = {row.split: row.found for row in rows}
    assert counts["testA"].refs == counts["testB"].refs == counts["testC"].refs == 1
    assert counts["all"].refs == 4


def test_an_annotation_that_refclef_lacks_is_named(tmp_path):
    path = write_refclef(tmp_path) / "refclef" / "instances.json"
    path.write_text(path.read_text().replace('"112_2"', '"112_9"'))
    with pytest.raises(UserError, match="number 0 is damaged .its annotation '112_2' is not in"):
        read(tmp_path, "refclef")


def test_two_annotations_of_one_text_are_refused(tmp_path):
    path = write_refclef(tmp_path) / "refclef" / "instances.json"
    path.write_text(path.read_text().replace('"112_1"', '"112_2"'))
    with pytest.raises(UserError, match="instances.json is not a COCO instances file"):
        read(tmp_path, "refclef")


def test_rrsisd_goes_by_its_name_alone(tmp_path):
    dataset = read(write_rrsisd(tmp_path), "rrsisd")
    assert dataset.splits == ("train", "val", "test")
    assert dataset.folder == tmp_path / "images" / "rrsisd" / "JPEGImages"
    np.testing.assert_array_equal(dataset.target(dataset.refs[0]), mask_of(BOXES[1]))


def test_the_folder_of_cocos_photographs_is_not_that_of_others(tmp_path):
    """One `--images` serves a folder with sets of several kinds of photographs."""
    write(write_rrsisd(tmp_path))
    (tmp_path / "images" / "train2014").rename(tmp_path / "coco")
    assert problems(tmp_path, "refcoco") != []
    for name in ("refcoco", "rrsisd"):
        assert problems(tmp_path, name, images=tmp_path / "coco") == []


def test_photographs_of_others_may_lie_elsewhere(tmp_path):
    write_rrsisd(tmp_path)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    elsewhere = tmp_path / "elsewhere" / "rrsisd" / "JPEGImages"
    assert problems(tmp_path, "rrsisd", images=elsewhere) == []
    # Once they lie in their own folder, that is the one.
    write_images(tmp_path / "images" / "rrsisd" / "JPEGImages", ["00000.jpg"])
    assert len(problems(tmp_path, "rrsisd", images=elsewhere)) == 2


def test_a_name_without_an_entry_is_answered_with_the_one_to_use(tmp_path):
    write(tmp_path, name="mine")
    with pytest.raises(UserError, match="way of splitting must be named: write mine:unc."):
        datasets.parse("mine", tmp_path)
    write(tmp_path, name="mine", split_by="own")
    with pytest.raises(UserError, match="write mine:own or mine:unc."):
        datasets.parse("mine", tmp_path)
    with pytest.raises(UserError, match="data set 'mine' is not known"):
        datasets.parse("mine", tmp_path / "nowhere")
