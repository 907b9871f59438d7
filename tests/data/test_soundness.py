"""What is damaged is found before a run reads it, and what no ref uses stops nothing."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmark.base.errors import UserError
from benchmark.data import soundness
from benchmark.data.check import check, render
from benchmark.data.refer import read_refer
from benchmark.data.soundness import require_sound
from tests.data.refer_files import HEIGHT, WIDTH, box, ref, write


def changed(root, change):
    """Write instances.json of a folder anew, as `change` leaves its content."""
    path = root / "refcoco" / "instances.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_truncated_photograph_of_a_test_split_is_found(tmp_path):
    refs = [ref(0), ref(1, image_id=2, ann_id=20, split="testB")]
    write(tmp_path, refs, image_ids=(1, 2))
    own = {"id": 20, "image_id": 2, "category_id": 3, "segmentation": [box(1, 1, 9, 9)]}
    changed(tmp_path, lambda content: content["annotations"].append(own))
    dataset = read_refer(tmp_path, "refcoco", "unc")
    path = dataset.image_path(2)
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-900])
    require_sound(dataset, "train")
    with pytest.raises(UserError, match=f"testB is damaged.*cannot be decoded: 1 .{path.name}"):
        require_sound(dataset, "testB")


def test_what_was_found_sound_is_not_read_again_until_it_changes(tmp_path, monkeypatch):
    write(tmp_path)
    seen = []
    require_sound(read_refer(tmp_path, "refcoco", "unc"), "train", lambda *done: seen.append(done))
    assert seen == [(0, 1)]
    require_sound(read_refer(tmp_path, "refcoco", "unc"), "train", lambda *done: seen.append(done))
    assert seen == [(0, 1)]
    dataset = read_refer(tmp_path, "refcoco", "unc")
    dataset.image_path(1).write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be decoded"):
        require_sound(dataset, "train")


@pytest.mark.parametrize(
    ("refs", "segmentations", "what"),
    [
        ([ref(image_id=2)], None, "annotation of another image: 1 .ref 0, annotation 10"),
        ([ref(ann_id=[10, 99])], None, "annotation that is not in instances.json: 1 .ref 0"),
        ([ref()], [{"size": [HEIGHT, WIDTH + 1], "counts": [1]}], "damaged segmentation"),
        ([ref(image_id=9)], None, "not in instances.json"),
    ],
)
def test_refs_that_do_not_fit_are_found_by_the_check_and_before_training(
    refs, segmentations, what, tmp_path
):
    write(tmp_path, refs, segmentations, image_ids=(1, 2))
    with pytest.raises(UserError, match=what):
        require_sound(read_refer(tmp_path, "refcoco", "unc"), "train")
    assert [problem for row in check(tmp_path) for problem in row.problems if problem]


def test_a_ref_without_target_is_sound(tmp_path):
    write(tmp_path, [ref(), ref(1, ann_id=[-1])])
    require_sound(read_refer(tmp_path, "refcoco", "unc"), "train")


@pytest.mark.parametrize(
    ("refs", "what"),
    [
        ([ref(3), ref(3)], "2 times the ref_id 3"),
        ([ref(3), {**ref(4), "sentences": ref(3)["sentences"]}], "2 times the sent_id 300"),
    ],
)
def test_ids_that_are_not_unique_are_found(refs, what, tmp_path):
    write(tmp_path, refs)
    with pytest.raises(UserError, match=what):
        read_refer(tmp_path, "refcoco", "unc")
    assert any(what in problem for row in check(tmp_path) for problem in row.problems)


@pytest.mark.parametrize("kind", ["images", "annotations"])
def test_two_images_or_annotations_of_one_id_are_found(kind, tmp_path):
    write(tmp_path)
    changed(tmp_path, lambda content: content[kind].append(content[kind][0]))
    with pytest.raises(UserError, match="two entries have the id 1"):
        read_refer(tmp_path, "refcoco", "unc")


@pytest.mark.parametrize(
    "damaged",
    [
        {"id": 77, "image_id": 1, "category_id": 3},
        {"id": 77, "image_id": 1, "category_id": 3, "segmentation": "x"},
        {"id": 77, "category_id": 3, "segmentation": []},
        {"image_id": 1},
        "no entry",
    ],
)
def test_what_no_ref_uses_stops_nothing(damaged, tmp_path):
    write(tmp_path)
    changed(tmp_path, lambda content: content["annotations"].append(damaged))
    changed(tmp_path, lambda content: content["images"].append({"id": 5}))
    dataset = read_refer(tmp_path, "refcoco", "unc")
    require_sound(dataset, "train")
    assert set(dataset.segmentations) == {10} and set(dataset.images) == {1}
    changed(tmp_path, lambda content: content["annotations"].pop(0))


def test_refs_without_sentences_are_skipped_and_counted(tmp_path, capsys):
    from rich.console import Console

    write(tmp_path, [ref(), {**ref(1), "sentences": []}])
    assert read_refer(tmp_path, "refcoco", "unc").skipped == 1
    console = Console(width=200)
    assert render(check(tmp_path), console)
    assert "refcoco (unc): 1 ref without sentences is left out." in capsys.readouterr().out
    write(tmp_path, [{**ref(), "sentences": []}])
    with pytest.raises(UserError, match="no ref with a sentence"):
        read_refer(tmp_path, "refcoco", "unc")


@pytest.mark.parametrize("size", [(0, 60), (-1, 60), (10**6, 10**6), (10**30, 1)])
def test_an_image_of_an_impossible_size_is_refused(size, tmp_path):
    write(tmp_path)
    changed(tmp_path, lambda content: content["images"][0].update(height=size[0], width=size[1]))
    with pytest.raises(UserError, match="image 1 cannot have"):
        read_refer(tmp_path, "refcoco", "unc")


def test_many_problems_are_cut_to_a_few(tmp_path):
    write(tmp_path, [ref(number, ann_id=90 + number) for number in range(9)])
    dataset = read_refer(tmp_path, "refcoco", "unc")
    (problem,) = soundness.problems(dataset, dataset.refs, soundness_sizes(dataset))
    assert problem.count("annotation 9") == soundness.SHOWN and ": 9 (" in problem


def soundness_sizes(dataset):
    return {dataset.image_path(1): soundness.stored(dataset.image_path(1), True)}
