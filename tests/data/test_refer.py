"""Reading REFER folders: content, masks against independent rasterisers, digests, and files that must be refused."""

import io
import json
import os
import pickle
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from benchmark.base.errors import UserError
from benchmark.data import datasets
from benchmark.data.pickles import read_pickle
from benchmark.data.refer import find_datasets, read_refer
from tests.helpers import SHARED

MINI = SHARED / "data" / "coco_mini"
needs_mini = pytest.mark.skipif(not MINI.is_dir(), reason="shared/data/coco_mini is not here")
HEIGHT, WIDTH = 40, 60


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def box(left, top, right, bottom):
    """The polygon that covers the pixels [left, right) x [top, bottom)."""
    return [left, top, right, top, right, bottom, left, bottom]


def box_mask(*boxes):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 1
    return mask


def run_lengths(mask):
    """Column-major run lengths, zeros first, counted with NumPy alone."""
    flat = np.concatenate([[0], mask.flatten(order="F")])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff([0, *edges, mask.size]).tolist()


def ref(ref_id=0, ann_id=10, image_id=1, split="train", sentences=("the box",)):
    entries = [
        {
            "sent_id": 100 * ref_id + number,
            "sent": text,
            "raw": text.upper(),
            "tokens": text.split(),
        }
        for number, text in enumerate(sentences)
    ]
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 3,
        "file_name": f"COCO_train2014_{image_id:012d}_{ref_id}.jpg",
        "split": split,
        "sent_ids": [entry["sent_id"] for entry in entries],
        "sentences": entries,
    }


def write(
    root,
    refs=None,
    segmentations=None,
    name="refcoco",
    split_by="unc",
    file_name=None,
    image_ids=(1,),
):
    """Write a REFER folder: gray images of 60 x 40 pixels, annotation ids counted from 10 on the first image."""
    folder, images = root / name, root / "images" / "train2014"
    folder.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    segmentations = [[box(5, 6, 20, 30)]] if segmentations is None else segmentations
    entries = []
    for image_id in image_ids:
        named = file_name or f"COCO_train2014_{image_id:012d}.jpg"
        Image.new("L", (WIDTH, HEIGHT), 7 * image_id).save(images / Path(named).name)
        entries.append({"id": image_id, "file_name": named, "height": HEIGHT, "width": WIDTH})
    annotations = [
        {"id": 10 + number, "image_id": image_ids[0], "category_id": 3, "segmentation": value}
        for number, value in enumerate(segmentations)
    ]
    categories = [{"id": 3, "name": "box"}]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / f"refs({split_by}).p").write_bytes(
        pickle.dumps([ref()] if refs is None else refs, protocol=2)
    )
    return root


# --- content


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


# --- masks


def test_the_mask_is_the_union_of_its_parts(tmp_path):
    parts = [(2, 3, 20, 10), (10, 5, 30, 35), (50, 30, 60, 40)]
    dataset = read_refer(
        write(tmp_path, segmentations=[[box(*part) for part in parts]]), "refcoco", "unc"
    )
    mask = dataset.mask(10)
    assert mask.dtype == np.uint8 and mask.flags.c_contiguous
    np.testing.assert_array_equal(mask, box_mask(*parts))


@pytest.mark.parametrize("form", ["crowd", "compressed", "list", "list of two"])
def test_run_lengths_in_every_form_give_the_same_mask(tmp_path, form):
    first, second = box_mask((0, 0, 7, 9)), box_mask((5, 4, 33, 21))
    expected = second if form != "list of two" else first | second
    rle = {"size": [HEIGHT, WIDTH], "counts": run_lengths(second)}
    value = {
        "crowd": rle,
        "compressed": {
            **rle,
            "counts": coco_mask.encode(np.asfortranarray(second))["counts"].decode(),
        },
        "list": [rle],
        "list of two": [{**rle, "counts": run_lengths(first)}, rle],
    }[form]
    dataset = read_refer(write(tmp_path, segmentations=[value]), "refcoco", "unc")
    np.testing.assert_array_equal(dataset.mask(10), expected)


@pytest.mark.parametrize("degenerate", [[], [1, 2], [1, 2, 30, 30]])
def test_a_polygon_of_fewer_than_three_points_is_no_part(tmp_path, degenerate):
    # Two points come first: pycocotools would take them, and then all parts, for boxes.
    values = [[degenerate, box(5, 6, 20, 30)], [degenerate], []]
    dataset = read_refer(write(tmp_path, segmentations=values), "refcoco", "unc")
    np.testing.assert_array_equal(dataset.mask(10), box_mask((5, 6, 20, 30)))
    assert not dataset.mask(11).any() and not dataset.mask(12).any()
    assert dataset.mask(12).shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "value",
    [
        {"size": [HEIGHT, WIDTH], "counts": [10, 20]},
        {"size": [HEIGHT, WIDTH], "counts": [-10, HEIGHT * WIDTH + 10]},
        {"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": "zzzzzzzz"},
        {"size": [HEIGHT, WIDTH], "counts": "12"},
        {"counts": [1]},
        [[1, 2, 3, 4, 5, 6, 7]],
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        [[0, 0, float("nan"), 0, 1, 1]],
        [1, 2, 3, 4, 5, 6],
    ],
)
def test_a_damaged_segmentation_is_named(tmp_path, value):
    dataset = read_refer(write(tmp_path, segmentations=[value]), "refcoco", "unc")
    with pytest.raises(UserError, match="Annotation 10 of refcoco"):
        dataset.mask(10)


@needs_mini
def test_masks_of_coco_mini_agree_with_opencv_and_with_run_lengths_by_hand():
    dataset = read_refer(MINI, "refcoco", "unc")
    raw = json.loads((MINI / "refcoco" / "instances.json").read_text())["annotations"]
    crowds = [entry for entry in raw if entry["iscrowd"]]
    for entry in crowds:
        height, width = entry["segmentation"]["size"]
        counts = entry["segmentation"]["counts"]
        by_hand = np.repeat(np.arange(len(counts)) % 2, counts).reshape(width, height).T
        np.testing.assert_array_equal(dataset.mask(entry["id"]), by_hand)
    parts = [
        entry
        for entry in raw
        if not entry["iscrowd"] and len(entry["segmentation"]) > 1 and entry["area"] > 4000
    ]
    assert len(crowds) > 10 and len(parts) > 10
    for entry in parts:
        info = dataset.images[entry["image_id"]]
        filled = np.zeros((info.height, info.width), np.uint8)
        for polygon in entry["segmentation"]:
            cv2.fillPoly(filled, [np.round(np.reshape(polygon, (-1, 2)) - 0.5).astype(np.int32)], 1)
        mask = dataset.mask(entry["id"])
        # The two draw edges differently by up to a pixel.
        assert (mask & filled).sum() / (mask | filled).sum() > 0.85


# --- what users can get wrong


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
        b'{"images": [], "annotations": [{"id": 1, "image_id": 1, "segmentation": "x"}], "categories": []}',
        b'{"images": [], "annotations": [{"id": 1, "image_id": 1, "segmentation": [["x"]]}], "categories": []}',
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


# --- pickles: plain data is read, everything else refused and not run


def python_2_refs():
    """A refs file as Python 2 writes it in protocol 0: byte strings, unicode, longs, references to the memo."""
    return (
        b"(lp1\n(dp2\nS'sent_ids'\np3\n(lp4\nI5\nasS'ann_id'\np5\nL10L\nsS'ref_id'\np6\nI0\nsS'image_id'\np7\nI1\n"
        b"sS'split'\np8\nS'train'\np9\nsS'category_id'\np10\nI3\nsS'file_name'\np11\nS'x.jpg'\np12\nsS'sentences'\np13\n"
        b"(lp14\n(dp15\nS'tokens'\np16\n(lp17\nS'caf\\xe9'\np18\nasS'raw'\np19\nS'Caf\\xe9'\np20\n"
        b"sS'sent'\np21\nVcaf\xe9\np22\nsS'sent_id'\np23\nI5\nsasa."
    )


def test_python_2_files_are_read(tmp_path):
    (write(tmp_path) / "refcoco" / "refs(unc).p").write_bytes(python_2_refs())
    (found,) = read_refer(tmp_path, "refcoco", "unc").refs
    assert (found.ref_id, found.ann_id, found.image_id, found.split) == (0, 10, 1, "train")
    assert (found.sentences[0].raw, found.sentences[0].sent, found.sentences[0].sent_id) == (
        "Café",
        "café",
        5,
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_read_in_every_protocol(tmp_path, protocol):
    path, data = tmp_path / "plain.p", [{"a": (1, -2, 2**70), "b": [True, None, 1.5]}, "é", ()]
    path.write_bytes(pickle.dumps(data, protocol))
    assert read_pickle(path) == data


def test_sets_are_read_from_protocol_4_on(tmp_path):
    (tmp_path / "set.p").write_bytes(pickle.dumps({"000000000001", "2"}, 4))
    assert read_pickle(tmp_path / "set.p") == {"000000000001", "2"}


class Touch:
    """Pickles as a call that makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Persistent(pickle.Pickler):
    def persistent_id(self, value):
        return "somewhere" if value == "stored" else None


def hostile(kind, witness):
    """A pickle that would make the folder `witness` if it were run."""
    call = os.mkdir.__module__.encode()
    path = str(witness).encode()
    if isinstance(
        kind, int
    ):  # REDUCE on GLOBAL (up to protocol 3) or STACK_GLOBAL, hidden in a list of refs
        return pickle.dumps([ref(), {"ref_id": Touch(witness)}], kind)
    if kind == "persistent id":
        buffer = io.BytesIO()
        Persistent(buffer).dump(["stored"])
        return buffer.getvalue()
    return {
        "GLOBAL": b"c" + call + b"\nmkdir\n(S'" + path + b"'\ntR.",
        "eval": b'cbuiltins\neval\n(S\'__import__("os").mkdir("' + path + b"\")'\ntR.",
        "python 2 eval": b'c__builtin__\neval\n(S\'__import__("os").mkdir("' + path + b"\")'\ntR.",
        "INST": b"(S'" + path + b"'\ni" + call + b"\nmkdir\n.",
        "OBJ": b"(c" + call + b"\nmkdir\nS'" + path + b"'\no.",
        "NEWOBJ": b"\x80\x02cpathlib\nPath\n(S'" + path + b"'\nt\x81.",
        "only a class": b"ccollections\nOrderedDict\n.",
        "EXT": b"\x80\x02\x82\x01(S'" + path + b"'\ntR.",
        "persistent id in text": b"Psomewhere\n.",
        "BUILD": b"\x80\x02]}S'append'\nc" + call + b"\nmkdir\nsb.",
        "a set of protocol 2": pickle.dumps({1, 2}, 2),
    }[kind]


KINDS = [
    *range(pickle.HIGHEST_PROTOCOL + 1),
    "persistent id",
    "GLOBAL",
    "eval",
    "python 2 eval",
    "INST",
    "OBJ",
    "NEWOBJ",
]
KINDS += ["only a class", "EXT", "persistent id in text", "BUILD", "a set of protocol 2"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_that_could_run_code_is_refused_and_not_run(tmp_path, kind):
    witness = tmp_path / "ran"
    (write(tmp_path) / "refcoco" / "refs(unc).p").write_bytes(hostile(kind, witness))
    refused = "damaged" if kind == "EXT" else "could run code"
    with pytest.raises(UserError, match=rf"refs\(unc\).p .*{refused}"):
        read_refer(tmp_path, "refcoco", "unc")
    assert not witness.exists()


@pytest.mark.parametrize("kind", [0, 2, 4, "GLOBAL", "eval", "INST", "OBJ"])
def test_the_hostile_pickles_of_this_file_do_run_when_loaded_plainly(tmp_path, kind):
    witness = tmp_path / "ran"
    pickle.loads(hostile(kind, witness))
    assert witness.is_dir()


def test_an_extension_code_that_the_process_has_registered_is_refused(tmp_path):
    import copyreg

    copyreg.add_extension(os.mkdir.__module__, "mkdir", 1)
    try:
        (tmp_path / "x.p").write_bytes(hostile("EXT", tmp_path / "ran"))
        with pytest.raises(UserError, match="could run code"):
            read_pickle(tmp_path / "x.p")
    finally:
        copyreg.remove_extension(os.mkdir.__module__, "mkdir", 1)
    assert not (tmp_path / "ran").exists()


def test_every_truncation_of_a_pickle_is_refused(tmp_path):
    for whole in (pickle.dumps([ref()], 2), pickle.dumps([ref()], 4), python_2_refs()):
        for end in range(len(whole)):
            (tmp_path / "cut.p").write_bytes(whole[:end])
            with pytest.raises(UserError, match="damaged or not a pickle"):
                read_pickle(tmp_path / "cut.p")


def test_random_bytes_are_refused_or_plain(tmp_path):
    draw = np.random.Generator(np.random.Philox(1))
    whole = pickle.dumps([ref()], 2)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[draw.integers(len(whole))] = draw.integers(256)
        # An index of 4 bytes into the memo may ask for gigabytes: not what is tested here.
        if struct.pack("B", 0x72) in damaged or struct.pack("B", 0x6A) in damaged:
            damaged = damaged[:50]
        (tmp_path / "noise.p").write_bytes(damaged)
        try:
            read_pickle(tmp_path / "noise.p")
        except UserError as error:
            assert "noise.p" in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"refs": []}, "holds a dict and not a list of refs"),
        ([1, 2], "a list of other things"),
        ([], "an empty list"),
        ("text", "holds a str"),
        ([ref(), {**ref(), "split": 3}], "ref number 1 is damaged .3 is not a string"),
        ([{"ref_id": 1}], "ref number 0 is damaged .no 'sentences'"),
        ([{**ref(), "ann_id": "10"}], "ref number 0 is damaged"),
        ([{**ref(), "sentences": [{"sent_id": 0, "sent": "x"}]}], "no 'raw'"),
        ([ref(sentences=())], "no sentences"),
    ],
)
def test_a_pickle_of_something_else_is_named(tmp_path, content, message):
    write(tmp_path, content)
    with pytest.raises(UserError, match=message):
        read_refer(tmp_path, "refcoco", "unc")


# --- digest


def digest(root, images=None):
    return read_refer(root, "refcoco", "unc", images).digest()


def age(root):
    """Make all files a minute old: what was written just now is hashed every time."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (path.stat().st_atime - 60, path.stat().st_mtime - 60))


def cached():
    return json.loads(
        (Path(os.environ["XDG_CACHE_HOME"]) / "risbench" / "digests.json").read_text()
    )


def test_the_digest_does_not_depend_on_where_or_under_which_name_files_lie(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b" / "c")
    (second / "images" / "train2014" / "COCO_train2014_000000000001.jpg").rename(
        tmp_path / "000000000001.jpg"
    )
    assert digest(first) == digest(second, tmp_path) == digest(first)
    assert len(digest(first)) == 64


def test_the_digest_is_the_same_from_the_cache_and_the_cache_is_used(tmp_path):
    age(write(tmp_path))
    fresh = digest(tmp_path)
    (key,) = cached()
    assert cached() == {key: fresh} and digest(tmp_path) == fresh
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "risbench" / "digests.json"
    cache.write_text(json.dumps({key: "f" * 64}))
    assert digest(tmp_path) == "f" * 64
    for damaged in ("{", "[]", json.dumps({key: 3})):
        cache.write_text(damaged)
        assert digest(tmp_path) == fresh
    assert [path.name for path in cache.parent.iterdir()] == ["digests.json"]


def test_files_that_were_written_just_now_are_not_cached(tmp_path):
    digest(write(tmp_path))
    assert not list(Path(os.environ["XDG_CACHE_HOME"]).iterdir())


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    age(write(tmp_path / "data"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(digest(tmp_path / "data")) == 64


def test_a_changed_image_or_annotation_changes_the_digest(tmp_path):
    age(write(tmp_path, [ref(), ref(1)], image_ids=(1, 2)))
    seen = {digest(tmp_path)}
    image = tmp_path / "images" / "train2014" / "COCO_train2014_000000000001.jpg"
    content = bytearray(image.read_bytes())
    content[-5] ^= 1
    image.write_bytes(content)  # of the same size
    seen.add(digest(tmp_path))
    refs = tmp_path / "refcoco" / "refs(unc).p"
    refs.write_bytes(refs.read_bytes().replace(b"train", b"testA"))
    seen.add(digest(tmp_path))
    instances = tmp_path / "refcoco" / "instances.json"
    instances.write_text(instances.read_text() + " ")
    seen.add(digest(tmp_path))
    assert len(seen) == 4
    before = digest(tmp_path)
    unused = tmp_path / "images" / "train2014" / "COCO_train2014_000000000002.jpg"
    unused.write_bytes(b"no ref uses this image")
    assert digest(tmp_path) == before


def test_a_missing_image_has_no_digest(tmp_path):
    dataset = read_refer(write(tmp_path), "refcoco", "unc")
    dataset.image_path(1).unlink()
    with pytest.raises(UserError, match="Image 1 is missing"):
        dataset.digest()
