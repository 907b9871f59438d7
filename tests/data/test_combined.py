"""The combined data set: which images it drops, and that nothing else is lost or renamed."""

import pickle

import pytest

from benchmark.base.errors import UserError
from benchmark.data.combined import read_combined
from benchmark.data.pickles import read_pickle
from benchmark.data.refer import read_refer
from tests.data.refer_files import ref, write
from tests.helpers import SHARED

LIST = SHARED / "data" / "val_test_files.p"

# (data set, split by) -> split of each image. One image may be in train of one set and in val
# or test of another.
SPLITS = {
    ("refcoco", "unc"): {1: "train", 2: "train", 3: "val", 4: "testA", 8: "train"},
    ("refcoco+", "unc"): {1: "train", 2: "testB", 3: "val", 5: "train", 8: "train"},
    ("refcocog", "umd"): {1: "train", 3: "train", 4: "train", 5: "val", 6: "test", 7: "train"},
}


@pytest.fixture
def root(tmp_path):
    for (name, split_by), splits in SPLITS.items():
        refs = [
            ref(
                number,
                ann_id=10,
                image_id=image_id,
                split=split,
                sentences=(f"{name} {image_id}", "again"),
            )
            for number, (image_id, split) in enumerate(splits.items())
        ]
        write(tmp_path, refs, name=name, split_by=split_by, image_ids=tuple(splits))
    return tmp_path


def expressions(dataset, split):
    return [found.sentences[0].sent for found in dataset.refs_of(split)]


def test_images_of_any_val_or_test_split_are_dropped(root):
    dataset = read_combined(root)
    assert expressions(dataset, "train") == [
        "refcoco 1",
        "refcoco 8",
        "refcoco+ 1",
        "refcoco+ 8",
        "refcocog 1",
        "refcocog 7",
    ]
    assert expressions(dataset, "val") == ["refcoco 3"]
    assert (dataset.name, dataset.splits) == ("combined", ("train", "val"))


def test_no_training_image_is_evaluated_on_in_any_set(root):
    trained = {found.image_id for found in read_combined(root).refs_of("train")}
    for name, split_by in SPLITS:
        for found in read_refer(root, name, split_by).refs:
            assert found.split == "train" or found.image_id not in trained


def test_ids_are_renumbered_and_coco_ids_are_kept(root):
    dataset = read_combined(root)
    assert [found.ref_id for found in dataset.refs] == list(range(7))
    assert [sentence.sent_id for found in dataset.refs for sentence in found.sentences] == list(
        range(14)
    )
    assert {found.image_id for found in dataset.refs} == {1, 3, 7, 8}
    assert set(dataset.images) == {1, 2, 3, 4, 5, 6, 7, 8}
    parts = [read_refer(root, name, split_by) for name, split_by in SPLITS]
    assert all((dataset.mask(10) == part.mask(10)).all() for part in parts)
    assert dataset.image(7).shape == (40, 60, 3)


def test_the_published_list_is_an_option(root, tmp_path):
    exclude = tmp_path / "list.p"
    exclude.write_bytes(pickle.dumps({"000000000003", "000000000001"}, 4))
    dataset = read_combined(root, rule="list", exclude=exclude)
    assert expressions(dataset, "train") == [
        "refcoco 2",
        "refcoco 8",
        "refcoco+ 5",
        "refcoco+ 8",
        "refcocog 4",
        "refcocog 7",
    ]
    assert expressions(dataset, "val") == ["refcoco 3"]


@pytest.mark.skipif(not LIST.is_file(), reason="shared/data/val_test_files.p is not here")
def test_the_published_list_itself_is_read(root, tmp_path):
    ids = read_pickle(LIST)
    assert len(ids) == 10_113 and all(isinstance(entry, str) and len(entry) == 12 for entry in ids)
    with pytest.raises(UserError, match="1 val images of RefCOCO in train"):
        read_combined(
            root, rule="list", exclude=LIST
        )  # the list knows nothing of image 3 of this test's set
    refs = [
        ref(0, image_id=int(min(ids))),
        ref(1, image_id=int(min(ids)), split="val"),
        ref(2, image_id=1),
    ]
    write(root, refs, image_ids=(1,))
    write(root, [ref()], name="refcocog", split_by="umd")
    assert len(read_combined(root, rule="list", exclude=LIST).refs_of("train")) == 5


def test_rule_and_list_belong_together(root, tmp_path):
    with pytest.raises(UserError, match="for the rule 'list', and for it alone"):
        read_combined(root, rule="list")
    with pytest.raises(UserError, match="for the rule 'list', and for it alone"):
        read_combined(root, exclude=tmp_path / "list.p")
    with pytest.raises(UserError, match="did you mean any-split"):
        read_combined(root, rule="any_split")


@pytest.mark.parametrize("content", [{"a": 1}, {"word"}, 7, ["1", None]])
def test_a_list_of_something_else_is_named(root, tmp_path, content):
    (tmp_path / "list.p").write_bytes(pickle.dumps(content, 4))
    with pytest.raises(UserError, match=r"list.p holds .* not a set of image ids"):
        read_combined(root, rule="list", exclude=tmp_path / "list.p")


def test_a_missing_part_is_named(root):
    (root / "refcoco+" / "refs(unc).p").unlink()
    with pytest.raises(UserError, match=r"no data set 'refcoco\+'"):
        read_combined(root)


def test_the_digest_is_that_of_all_parts_and_of_the_rule(root, tmp_path):
    (tmp_path / "list.p").write_bytes(
        pickle.dumps({2, 3, 4, 5, 6}, 4)
    )  # the same images as by the default rule
    any_split, listed = (
        read_combined(root),
        read_combined(root, rule="list", exclude=tmp_path / "list.p"),
    )
    assert expressions(any_split, "train") == expressions(listed, "train")
    digests = {
        any_split.digest(),
        listed.digest(),
        *(read_refer(root, *part).digest() for part in SPLITS),
    }
    refs = root / "refcocog" / "refs(umd).p"
    refs.write_bytes(refs.read_bytes().replace(b"refcocog 7", b"refcocog 9"))
    digests.add(read_combined(root).digest())
    assert len(digests) == 6
