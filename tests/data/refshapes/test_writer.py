"""The files of RefShapes: layout, counts, repetition and interruption."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.data.folders import find_datasets
from benchmark.data.refer import read_refer
from benchmark.data.refshapes.writer import (
    RefShapesSize,
    shutil,
    write_refshapes,
)
from tests.data.refshapes.reading import NAMES, ROUND, SIZE

TINY = {"train": 2, "val": 1, "testA": 1, "testB": 0}


def digest(root):
    content = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            content.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return content.hexdigest()


def test_layout_is_refers_and_counts_are_as_asked(root):
    assert find_datasets(root) == {name: ["unc"] for name in NAMES}
    all_ids = []
    for name in NAMES:
        dataset = read_refer(root, name, "unc")
        assert dataset.splits == ("train", "val", "testA", "testB")
        for split, count in (("train", 30), ("val", 6), ("testA", 8), ("testB", 8)):
            refs = dataset.refs_of(split)
            per_image = np.unique([ref.image_id for ref in refs], return_counts=True)[1]
            assert len(per_image) == count and per_image.min() >= 2 and per_image.max() <= 4
            assert {len(ref.sentences) for ref in refs} <= {2, 3}
        assert [ref.ref_id for ref in dataset.refs] == list(range(len(dataset.refs)))
        sent_ids = [sentence.sent_id for ref in dataset.refs for sentence in ref.sentences]
        assert sent_ids == list(range(len(sent_ids)))
        assert all(dataset.image(image_id).shape[2] == 3 for image_id in dataset.images)
        all_ids += dataset.images
    assert len(set(all_ids)) == len(all_ids) and min(all_ids) > 600_000


def test_test_splits_hold_round_and_angular_referents(root):
    for name in NAMES:
        dataset = read_refer(root, name, "unc")
        shapes = {
            split: {dataset.categories[ref.category_id] for ref in dataset.refs_of(split)}
            for split in dataset.splits
        }
        assert shapes["testA"] <= ROUND and not shapes["testB"] & ROUND
        assert shapes["train"] & ROUND and shapes["train"] - ROUND


def test_same_bytes_for_a_seed_alone(tmp_path):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_refshapes(tmp_path / folder, "refshapes", TINY, seed)
    for folder in "abc":
        (tmp_path / folder / "refshapes" / "refshapes.json").unlink()  # names the seed
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_a_scene_does_not_depend_on_how_many_there_are(root, scenes, tmp_path):
    write_refshapes(tmp_path, "refshapes", TINY)
    few = json.loads((tmp_path / "refshapes" / "scenes.json").read_text())["images"]
    assert few == {image_id: scenes["refshapes"]["images"][image_id] for image_id in few}
    for path in (tmp_path / "images" / "train2014").iterdir():
        assert path.read_bytes() == (root / "images" / "train2014" / path.name).read_bytes()


def test_an_existing_set_is_left_alone_and_another_refused(tmp_path):
    write_refshapes(tmp_path, "refshapes+", TINY)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    write_refshapes(tmp_path, "refshapes+", TINY)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for size, seed in ((TINY, 1), (SIZE, 0)):
        with pytest.raises(UserError, match="remove that folder or choose another root"):
            write_refshapes(tmp_path, "refshapes+", size, seed)


@pytest.mark.parametrize(
    "lost", ["refshapes.json", "refs(unc).p", "instances.json", "scenes.json", "an image"]
)
def test_a_set_with_a_missing_file_is_refused(tmp_path, lost):
    write_refshapes(tmp_path, "refshapes", TINY)
    images = sorted((tmp_path / "images" / "train2014").iterdir())
    (images[1] if lost == "an image" else tmp_path / "refshapes" / lost).unlink()
    with pytest.raises(UserError, match="is not whole"):
        write_refshapes(tmp_path, "refshapes", TINY)


@pytest.mark.parametrize("killed", [False, True])
def test_an_interrupted_write_leaves_no_data_set_and_is_done_again(tmp_path, monkeypatch, killed):
    write_refshapes(tmp_path / "whole", "refshapes", TINY)
    root, rename = tmp_path / "cut", Path.rename

    def interrupt(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupt)
        if killed:  # nothing is cleared away
            patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(KeyboardInterrupt):
            write_refshapes(root, "refshapes", TINY)
    assert Path.rename is rename and (root / ".refshapes.partial").exists() == killed
    with pytest.raises(UserError, match="holds no data set"):
        find_datasets(root)
    write_refshapes(root, "refshapes", TINY)
    assert digest(root) == digest(tmp_path / "whole")


def test_user_errors(tmp_path):
    with pytest.raises(UserError, match=r"did you mean refshapes"):
        write_refshapes(tmp_path, "refshape", TINY)
    for counts in ((-1, 0, 0, 1), (0, 0, 0, 0), (10**6, 1, 1, 1)):
        with pytest.raises(UserError, match="for each split"):
            RefShapesSize(*counts)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file"):
        write_refshapes(tmp_path / "file", "refshapes", TINY)
