"""Reading REFER folders: their content, and what users can get wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmark.base.errors import UserError
from benchmark.data import datasets
from benchmark.data.folders import find_datasets
from benchmark.data.refer import read_refer
from tests.data.refer_files import HEIGHT, MINI, WIDTH, needs_mini, ref, write


@needs_mini
def test_coco_mini_is_read_completely():
    dataset = read_refer(MINI, "refcoco", "unc")
    assert dataset.splits == ("train", "val", "testA", "testB")
    assert [len(dataset.refs_of(split)) for split in dataset.splits] == [203, 22, 28, 21]
    assert sum(len(ref.sentences) for ref in dataset.refs) == 524
    assert (len(dataset.images), len(dataset.segmentations), len(dataset.categories)) == (
        128,
        900,
        80,
    )
    sentences = [s.sent for ref in dataset.refs if ref.ann_id == 1143796 for s in ref.sentences]
    assert "the stack of papers on the farthest left" in sentences
    assert all(dataset.annotation_image[ref.ann_id] == ref.image_id for ref in dataset.refs)


@needs_mini
def test_every_image_of_coco_mini_is_rgb_of_the_annotated_size():
    dataset = read_refer(MINI, "refcoco", "unc")
    modes = set()
    for image_id in sorted(dataset.images)[::4] + [
        image_id
        for image_id in dataset.images
        if Image.open(dataset.image_path(image_id)).mode == "L"
    ]:
        info, pixels = dataset.images[image_id], dataset.image(image_id)
        assert pixels.shape == (info.height, info.width, 3) and pixels.dtype == np.uint8
        modes.add(Image.open(dataset.image_path(image_id)).mode)
    assert modes == {"RGB", "L"}


def test_sent_and_raw_are_kept_apart_and_the_refs_own_file_name_is_ignored(tmp_path):
    dataset = read_refer(write(tmp_path), "refcoco", "unc")
    assert [(s.sent_id, s.sent, s.raw) for s in dataset.refs[0].sentences] == [
        (0, "the box", "THE BOX")
    ]
    assert dataset.image_path(1).name == "COCO_train2014_000000000001.jpg"
    assert (dataset.image(1) == 7).all()


def test_refcocog_is_read_by_umd_and_by_google(tmp_path):
    write(tmp_path, [ref(), ref(1, split="test")], name="refcocog", split_by="umd")
    write(tmp_path, [ref(), ref(1, split="val")], name="refcocog", split_by="google")
    assert find_datasets(tmp_path) == {"refcocog": ["google", "umd"]}
    assert read_refer(tmp_path, "refcocog", "umd").splits == ("train", "test")
    assert read_refer(tmp_path, "refcocog", "google").splits == ("train", "val")


def test_the_default_split_is_the_literatures():
    names = ("refcoco", "refcoco+", "refcocog", "refshapes", "refshapesg")
    assert [datasets.get(name).split_by for name in names] == ["unc", "unc", "umd", "unc", "unc"]
    with pytest.raises(UserError, match="refcocog"):
        datasets.parse("refcocgo")


@pytest.mark.parametrize(
    "placed", ["COCO_train2014_000000000001.jpg", "000000000001.jpg", "train/odd.jpg", "odd.jpg"]
)
def test_images_are_found_under_their_2014_or_2017_name(tmp_path, placed):
    file_name = "train/odd.jpg" if "odd" in placed else None
    dataset = read_refer(
        write(tmp_path / "a", file_name=file_name), "refcoco", "unc", tmp_path / "b"
    )
    written = next((tmp_path / "a" / "images" / "train2014").iterdir())
    (tmp_path / "b" / placed).parent.mkdir(parents=True)
    written.rename(tmp_path / "b" / placed)
    assert dataset.image(1).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("way_out", ["absolute", "relative"])
def test_an_image_name_does_not_lead_out_of_the_folder(tmp_path, way_out):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"outside of the images folder")
    dataset = read_refer(
        write(tmp_path, file_name=str(secret) if way_out == "absolute" else "../../secret.jpg"),
        "refcoco",
        "unc",
    )
    assert dataset.image_path(1) == tmp_path / "images" / "train2014" / "secret.jpg"


def test_misspelt_names_list_what_is_there(tmp_path):
    write(tmp_path)
    with pytest.raises(UserError, match="did you mean refcoco"):
        read_refer(tmp_path, "refcco", "unc")
    with pytest.raises(UserError, match="valid are unc"):
        read_refer(tmp_path, "refcoco", "umd")
    with pytest.raises(UserError, match="valid are train"):
        read_refer(tmp_path, "refcoco", "unc").refs_of("val")


@pytest.mark.parametrize("root", ["", "nowhere"])
def test_a_wrong_root_shows_the_layout(tmp_path, root):
    with pytest.raises(
        UserError, match=r"(?s)refcoco/ +instances.json, refs\(unc\).p.*images/train2014"
    ):
        read_refer(tmp_path / root, "refcoco", "unc")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"images": [',
        b"\xff\xfe",
        b"[]",
        b"3",
        b'{"images": [], "annotations": []}',
        b'{"images": [{"id": 1}], "annotations": [], "categories": []}',
        b'{"images": [], "categories": [],'
        b' "annotations": [{"id": 10, "image_id": 1, "category_id": 3, "segmentation": "x"}]}',
        b'{"images": [], "categories": [],'
        b' "annotations": [{"id": 10, "image_id": 1, "category_id": 3, "segmentation": [["x"]]}]}',
        b"[" * 100_000,
    ],
)
def test_damaged_instances_are_named(tmp_path, content):
    (write(tmp_path) / "refcoco" / "instances.json").write_bytes(content)
    with pytest.raises(UserError, match="instances.json"):
        read_refer(tmp_path, "refcoco", "unc")


def test_a_missing_instances_file_is_named(tmp_path):
    (write(tmp_path) / "refcoco" / "instances.json").unlink()
    with pytest.raises(UserError, match="instances.json cannot be read"):
        read_refer(tmp_path, "refcoco", "unc")


def test_what_is_missing_is_named(tmp_path):
    dataset = read_refer(write(tmp_path), "refcoco", "unc")
    with pytest.raises(UserError, match="Annotation 99"):
        dataset.mask(99)
    with pytest.raises(UserError, match="Image 99"):
        dataset.image(99)
    dataset.image_path(1).unlink()
    with pytest.raises(UserError, match=r"COCO_train2014_000000000001.jpg or 000000000001.jpg"):
        dataset.image(1)


@pytest.mark.parametrize("kept", [0, 1, 200, 500])
def test_a_truncated_image_is_named(tmp_path, kept):
    dataset = read_refer(write(tmp_path), "refcoco", "unc")
    noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    Image.fromarray(noise).save(dataset.image_path(1))
    dataset.image_path(1).write_bytes(dataset.image_path(1).read_bytes()[:kept])
    with pytest.raises(UserError, match=r"COCO_train2014_000000000001.jpg is damaged"):
        dataset.image(1)


def test_a_resized_image_is_refused(tmp_path):
    dataset = read_refer(write(tmp_path), "refcoco", "unc")
    Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(dataset.image_path(1))
    with pytest.raises(UserError, match="30 x 20 pixels and instances.json says 60 x 40"):
        dataset.image(1)


@pytest.mark.parametrize(
    "split",
    ["../../../x", "", "x" * 300, "a\0b", "a/b", ".hidden", "a..b", "val\n", "\x1b[J", "é"],
)
def test_a_split_that_cannot_name_a_file_is_refused(split, tmp_path):
    write(tmp_path, [ref(), ref(1, split=split)])
    with pytest.raises(
        UserError, match="^a split of refcoco .unc. is called .*cannot name"
    ) as said:
        read_refer(tmp_path, "refcoco", "unc")
    assert str(said.value).isprintable() and len(str(said.value)) < 250


@pytest.mark.parametrize("entry", ["../x:unc", "mine:../x", "mine:a\0b", f"{'x' * 65}:unc", ":unc"])
def test_a_data_set_that_cannot_name_a_folder_is_refused(entry):
    with pytest.raises(UserError, match="cannot name a file"):
        datasets.parse(entry)


@pytest.mark.parametrize("file_name", ["..", "a\0b.jpg", "x" * 300, "a/../../../b.jpg", ""])
def test_no_name_of_an_image_leads_out_of_the_folder_or_to_a_traceback(file_name, tmp_path):
    dataset = read_refer(write(tmp_path), "refcoco", "unc")
    path = tmp_path / "refcoco" / "instances.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = file_name
    path.write_text(json.dumps(content))
    dataset.image_path(1).unlink()
    with pytest.raises(UserError, match="Image 1 is missing"):
        read_refer(tmp_path, "refcoco", "unc").image(1)
