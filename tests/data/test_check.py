"""`risbench data check`: counts beside the known ones, and every kind of damage named."""

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmark.base.errors import UserError
from benchmark.data import check as check_module
from benchmark.data import datasets
from benchmark.data.check import Count, check, render
from benchmark.data.pictures import ORIENTATION
from tests.data.refer_files import HEIGHT, MINI, WIDTH, box, needs_mini, ref, write


def report(rows):
    console = Console(record=True, width=80, file=io.StringIO())
    return render(rows, console), console.export_text()


def damage(root, **options):
    """The problems of a folder, with the split in which each was found."""
    return [(row.split, problem) for row in check(root, **options) for problem in row.problems]


def test_known_counts_are_those_of_the_published_files():
    known = {
        f"{name}:{split_by}": counts
        for name, dataset in datasets.DATASETS.items()
        for split_by, counts in dataset.counts.items()
        if "all" in counts
    }
    # REFER's notebook, TensorFlow Datasets' catalogue and the authors of gRefCOCO and RRSIS-D print
    # these totals.
    totals = {"refcoco:unc": 142210, "refcoco+:unc": 141564, "refcocog:umd": 95010}
    totals |= {"grefcoco:unc": 259859, "rrsisd:unc": 17402, "refclef:berkeley": None}
    assert {key: counts["all"].expressions for key, counts in known.items()} == totals
    for key, counts in known.items():
        if key == "grefcoco:unc":  # No source says what its train holds.
            continue
        for what, total in vars(counts["all"]).items():
            parts = [getattr(count, what) for split, count in counts.items() if split != "all"]
            assert parts == [None] * len(parts) if total is None else sum(parts) == total


@needs_mini
def test_coco_mini_is_complete_and_differs_from_the_known_counts():
    rows = check(MINI, full=True)
    counts = {row.split: row.found for row in rows if row.found}
    assert (counts["all"].refs, counts["all"].expressions) == (274, 524)
    assert (
        sum(counts[split].images for split in ("train", "val", "testA", "testB"))
        == counts["all"].images
    )
    refcoco = [row for row in rows if row.dataset == "refcoco"]
    assert next(row.known for row in refcoco if row.split == "val") == Count(1500, 3811, 10834)
    ok, text = report(rows)
    assert ok and "Other counts than the known ones, a warning only: refcoco (unc) train" in text
    assert "Absent: grefcoco (unc), refclef (unc), refclef (berkeley), refcoco+ (unc)," in text
    assert "refcocog (umd), refcocog (google), rrsisd (unc)." in text
    assert "274/50,000" in text and "524/142,210" in text


def test_all_data_sets_present_are_checked_with_embedded_ones(tmp_path):
    write(tmp_path)
    write(tmp_path, [ref(split="val")], name="refcocog", split_by="google")
    write(tmp_path, name="refshapes-hard")
    rows = check(tmp_path)
    absent = {(row.dataset, row.split_by) for row in rows if row.absent}
    assert {("refcoco+", "unc"), ("refcocog", "umd"), ("rrsisd", "unc")} < absent
    assert not absent & {("refcoco", "unc"), ("refcocog", "google"), ("refshapes-hard", "unc")}
    found = {(row.dataset, row.split): row for row in rows if row.found}
    assert found["refcocog", "val"].found == Count(1, 1, 1) and found[
        "refcocog", "train"
    ].found == Count(0, 0, 0)
    assert found["refcocog", "train"].differs and found["refcocog", "all"].known is None
    assert not found["refshapes-hard", "all"].differs
    assert report(rows)[0]


def test_equal_counts_are_as_known(tmp_path, monkeypatch):
    known = dataclasses.replace(datasets.get("refcoco"), counts={"unc": {"train": Count(1, 1, 1)}})
    monkeypatch.setattr(check_module, "get", lambda name: known)
    rows = check(write(tmp_path))
    assert not any(row.differs for row in rows)
    ok, text = report(rows)
    assert ok and "as known" in text and "warning" not in text


def test_missing_images_are_counted_per_split_and_the_first_ones_named(tmp_path):
    ids = (1, 2, 3, 4, 5, 6)
    refs = [ref(n, ann_id=10 + n, image_id=n, split="val" if n == 6 else "train") for n in ids]
    instances = write(tmp_path, refs, image_ids=ids) / "refcoco" / "instances.json"
    content = json.loads(instances.read_text())
    content["annotations"] = [
        {**content["annotations"][0], "id": 10 + n, "image_id": n} for n in ids
    ]
    instances.write_text(json.dumps(content))
    assert damage(tmp_path) == []
    for image_id in (1, 2, 4, 5, 6):
        (tmp_path / "images" / "train2014" / f"COCO_train2014_{image_id:012d}.jpg").unlink()
    (first, train), (second, val) = damage(tmp_path)
    assert (first, second) == ("train", "val")
    assert (
        train.startswith("images missing in ") and ": 4 (COCO_train2014_000000000001.jpg; " in train
    )
    assert train.endswith("000000000004.jpg; ...).") and val.endswith(
        ": 1 (COCO_train2014_000000000006.jpg)."
    )
    ok, text = report(check(tmp_path))
    assert not ok and "refcoco (unc) train: images missing in" in text and "damaged" in text


def test_a_truncated_image_is_found_by_decoding_and_an_empty_one_at_once(tmp_path):
    image = write(tmp_path) / "images" / "train2014" / "COCO_train2014_000000000001.jpg"
    noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    Image.fromarray(noise).save(image)
    image.write_bytes(image.read_bytes()[:-200])
    assert damage(tmp_path) == []
    ((split, named),) = damage(tmp_path, full=True)
    assert split == "train" and "decoded" in named and f": 1 ({image.name})" in named
    image.write_bytes(b"")
    assert damage(tmp_path) == [(split, named)]


def test_a_resized_image_is_found(tmp_path):
    image = write(tmp_path) / "images" / "train2014" / "COCO_train2014_000000000001.jpg"
    Image.new("RGB", (HEIGHT, WIDTH)).save(image)
    ((split, named),) = damage(tmp_path)
    assert split == "train" and "size" in named and f": 1 ({image.name})" in named


def test_a_photograph_that_was_held_sideways_is_counted_and_no_problem(tmp_path):
    image = write(tmp_path) / "images" / "train2014" / "COCO_train2014_000000000001.jpg"
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("RGB", (HEIGHT, WIDTH)).save(image, exif=exif)
    fine, text = report(rows := check(tmp_path))
    assert fine and not damage(tmp_path)
    assert [(row.split, row.turned) for row in rows if row.turned] == [("train", 1)]
    assert "1 image is turned as EXIF says" in text


def test_images_may_lie_elsewhere_under_their_2017_names(tmp_path):
    image = write(tmp_path) / "images" / "train2014" / "COCO_train2014_000000000001.jpg"
    (tmp_path / "coco").mkdir()
    image.rename(tmp_path / "coco" / "000000000001.jpg")
    assert len(damage(tmp_path)) == 1 and damage(tmp_path, images=tmp_path / "coco") == []


def test_refs_without_annotation_image_or_mask_are_found(tmp_path):
    damaged = {"size": [HEIGHT, WIDTH], "counts": [3]}
    segmentations = [[box(5, 6, 20, 30)], [[1, 2, 3, 4]], damaged]
    refs = [
        ref(0),
        ref(1, ann_id=11),
        ref(2, ann_id=12),
        ref(3, ann_id=99),
        ref(4, image_id=2),
        ref(5, image_id=77),
    ]
    write(tmp_path, refs, segmentations, image_ids=(1, 2))
    named = (
        ("images not in instances.json", "1 (77)"),
        ("empty mask", "1 (ref 1, annotation 11)"),
        ("damaged segmentation", "1 (ref 2, annotation 12)"),
        ("not in instances.json", "1 (ref 3, annotation 99)"),
        ("of another image", "2 (ref 4, annotation 10; ref 5, annotation 10)"),
    )
    for (_, problem), (what, which) in zip(damage(tmp_path), named, strict=True):
        assert what in problem and which in problem


def test_a_damaged_file_does_not_stop_the_other_data_sets(tmp_path):
    write(tmp_path)
    write(tmp_path, name="refcoco+")
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    rows = check(tmp_path)
    (damaged,) = [row for row in rows if row.dataset == "refcoco"]
    assert "could run code" in damaged.problems[0] and not damaged.absent
    assert damaged.found is None
    assert next(row for row in rows if row.dataset == "refcoco+").found == Count(1, 1, 1)
    assert not report(rows)[0]


@pytest.mark.parametrize("root", ["", "nowhere"])
def test_a_wrong_root_shows_the_layout(tmp_path, root):
    with pytest.raises(UserError, match=r"(?s)refcoco/.*images/train2014"):
        check(tmp_path / root)


def test_progress_is_shown_where_a_console_is_given(tmp_path):
    console = Console(record=True, force_terminal=True, width=80, file=io.StringIO())
    check(write(tmp_path), console=console)
    assert "refcoco (unc): images" in console.export_text()


def test_a_folder_without_an_entry_is_listed_with_the_name_to_use(tmp_path):
    write(tmp_path)
    write(tmp_path, name="mine")
    write(tmp_path, name="mine", split_by="own")
    fine, text = report(check(tmp_path))
    assert fine and "named in commands and presets as mine:own, mine:unc." in text
    assert datasets.read(*datasets.parse("mine:own"), tmp_path).splits == ("train",)


def test_a_damaged_folder_without_an_entry_is_reported(tmp_path):
    write(tmp_path)
    refs = write(tmp_path, name="mine") / "mine" / "refs(unc).p"
    refs.write_bytes(refs.read_bytes()[:40])
    fine, text = report(check(tmp_path))
    assert not fine and "mine (unc): " in text and "is damaged" in text


@pytest.mark.parametrize("name", ["mine", "rrsisd", "refcocog"])
def test_annotations_without_refs_are_reported_once(tmp_path, name):
    write(tmp_path)
    (write(tmp_path, name=name) / name / "refs(unc).p").unlink()
    rows = check(tmp_path)
    ((problem,),) = [row.problems for row in rows if row.dataset == name]
    assert problem.startswith(f"{tmp_path / name} has instances.json and no refs(...).p")
    fine, text = report(rows)
    assert not fine and f"\n{name}: " in text and f"{name} (" not in text


def test_a_count_that_is_not_known_is_no_difference(tmp_path, monkeypatch):
    known = dataclasses.replace(
        datasets.get("refcoco"), counts={"unc": {"train": Count(images=1), "all": Count(images=9)}}
    )
    monkeypatch.setattr(check_module, "get", lambda name: known)
    rows = [row for row in check(write(tmp_path)) if row.found]
    assert [(row.split, row.differs) for row in rows] == [("train", False), ("all", True)]
    assert "1/9" in report(rows)[1]
