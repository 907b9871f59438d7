"""Masks that others predicted: every format gives the same records, and every fault is named."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco

from benchmark.base.errors import UserError
from benchmark.data.datasets import read
from benchmark.evaluation.predicted_masks import run_lengths, score
from benchmark.evaluation.prediction_reading import read_predictions
from tests.helpers import write_boxes


@pytest.fixture(scope="module")
def dataset(boxes):
    return read("refcoco", "unc", boxes)


@pytest.fixture(scope="module")
def predicted(dataset):
    """Return sent_id -> a random mask of its image's size, of val."""
    found = {}
    for ref in dataset.refs_of("val"):
        info = dataset.info(ref.image_id)
        for sentence in ref.sentences:
            stream = np.random.default_rng(sentence.sent_id)
            found[sentence.sent_id] = stream.random((info.height, info.width)) > 0.7
    return found


def rle(mask):
    code = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


def uncompressed(mask):
    """Return the run lengths as a list, counted here and not by pycocotools."""
    flat = [0, *mask.astype(int).ravel(order="F")]
    starts = [place for place in range(1, len(flat)) if flat[place] != flat[place - 1]]
    ends = [1, *starts, len(flat)]
    counts = [int(end - start) for start, end in zip(ends, ends[1:], strict=False)]
    return {"size": list(mask.shape), "counts": counts}


def entries(dataset, predicted, *names, code=rle):
    """Return COCO results, with an entry's ids reduced to `names`."""
    rows = []
    for ref in dataset.refs_of("val"):
        for index, sentence in enumerate(ref.sentences):
            ids = {
                "sent_id": sentence.sent_id,
                "ref_id": ref.ref_id,
                "index": index,
                "image_id": ref.image_id,
                "sentence": sentence.raw,
            }
            mask = code(predicted[sentence.sent_id])
            rows.append({name: ids[name] for name in names} | {"segmentation": mask, "score": 1.0})
    return rows


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_list(folder, rows):
    (folder / "masks.json").write_text(json.dumps(rows, indent=1))
    return folder / "masks.json"


def as_lines(folder, rows):
    (folder / "masks.jsonl").write_text(lines(rows))
    return folder / "masks.jsonl"


def as_gzipped_lines(folder, rows):
    (folder / "masks.jsonl.gz").write_bytes(gzip.compress(lines(rows).encode()))
    return folder / "masks.jsonl.gz"


def as_gzipped_list(folder, rows):
    (folder / "masks.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    return folder / "masks.json.gz"


def as_nested_table(folder, rows):
    pd.DataFrame(rows).to_parquet(folder / "masks.parquet")
    return folder / "masks.parquet"


def as_table_of_texts(folder, rows):
    table = pd.DataFrame(rows)
    table["segmentation"] = table["segmentation"].map(json.dumps)
    table.to_parquet(folder / "masks.parquet")
    return folder / "masks.parquet"


def as_stored(folder, rows):
    """Write the columns in which a run keeps its masks."""
    flat = [
        {**row, **row["segmentation"], "height": row["segmentation"]["size"][0]}
        | {"width": row["segmentation"]["size"][1]}
        for row in rows
    ]
    pd.DataFrame(flat).drop(columns=["segmentation", "size"]).to_parquet(folder / "masks.parquet")
    return folder / "masks.parquet"


FORMATS = [
    as_list,
    as_lines,
    as_gzipped_lines,
    as_gzipped_list,
    as_nested_table,
    as_table_of_texts,
    as_stored,
]


def check(path, dataset, predicted):
    """Check masks and records of a file against plain counting."""
    found = read_predictions(path, dataset, "val")
    for sent_id, mask in predicted.items():
        np.testing.assert_array_equal(found.mask(sent_id), mask)
    records = score(dataset, "val", found).set_index("sent_id")
    for ref in dataset.refs_of("val"):
        truth = dataset.mask(ref.ann_id).astype(bool)
        for sentence in ref.sentences:
            row, mask = records.loc[sentence.sent_id], predicted[sentence.sent_id]
            assert row["intersection"] == (truth & mask).sum()
            assert row["union"] == (truth | mask).sum()
            assert row["swapped_union"] > 0, "every image of these has another object"
    assert len(records) == len(predicted)


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_every_format_gives_the_same_masks(write, dataset, predicted, tmp_path):
    check(write(tmp_path, entries(dataset, predicted, "sent_id")), dataset, predicted)


@pytest.mark.parametrize(
    "names", [("ref_id", "index"), ("image_id", "sentence"), ("sent_id", "ref_id", "image_id")]
)
def test_an_expression_is_named_in_three_ways(names, dataset, predicted, tmp_path):
    check(as_lines(tmp_path, entries(dataset, predicted, *names)), dataset, predicted)


def test_uncompressed_run_lengths_are_read(dataset, predicted, tmp_path):
    rows = entries(dataset, predicted, "sent_id", code=uncompressed)
    check(as_lines(tmp_path, rows), dataset, predicted)


@pytest.mark.parametrize("value", [1, 255])
def test_a_folder_of_pictures_is_read(value, dataset, predicted, tmp_path):
    for sent_id, mask in predicted.items():
        Image.fromarray(mask.astype(np.uint8) * value).save(tmp_path / f"{sent_id:012d}.png")
    (tmp_path / "notes.txt").write_text("beside them")
    check(tmp_path, dataset, predicted)


def test_pictures_are_called_by_ref_and_place_and_may_have_colors(dataset, predicted, tmp_path):
    modes = ["1", "L", "P", "RGB", "RGBA", "LA"]
    for ref in dataset.refs_of("val"):
        for index, sentence in enumerate(ref.sentences):
            picture = Image.fromarray(predicted[sentence.sent_id].astype(np.uint8) * 255)
            mode = modes[sentence.sent_id % len(modes)]
            picture.convert(mode).save(tmp_path / f"{ref.ref_id}_{index}.png")
    check(tmp_path, dataset, predicted)


def test_polygons_are_filled_as_the_annotations_are(dataset, tmp_path):
    """The annotations are polygons, so they answer themselves."""
    rows = [
        {
            "sent_id": sentence.sent_id,
            "segmentation": [part.tolist() for part in dataset.segmentations[ref.ann_id]],
        }
        for ref in dataset.refs_of("val")
        for sentence in ref.sentences
    ]
    found = read_predictions(as_lines(tmp_path, rows), dataset, "val")
    records = score(dataset, "val", found)
    assert (records["intersection"] == records["union"]).all()


def test_no_polygon_is_an_empty_mask():
    mask = coco.decode({"size": [4, 6], "counts": run_lengths([], 4, 6)})
    assert mask.shape == (4, 6) and not mask.any()


def test_the_digest_is_of_the_masks_and_not_of_the_file(dataset, predicted, tmp_path):
    rows = entries(dataset, predicted, "sent_id")
    files = [as_lines(tmp_path, rows[::-1]), as_stored(tmp_path, rows)]
    one, two = (read_predictions(path, dataset, "val") for path in files)
    assert one.digest() == two.digest()
    rows[0]["segmentation"] = rle(~predicted[rows[0]["sent_id"]])
    assert read_predictions(as_lines(tmp_path, rows), dataset, "val").digest() != one.digest()


def test_a_sentence_that_is_said_twice_of_an_image_is_answered_once_or_each_time(tmp_path):
    root = write_boxes(tmp_path / "data")
    data = read("refcoco", "unc", root)
    first, second = (ref for ref in data.refs_of("val")[:2])
    twin = second.sentences[0].__class__(second.sentences[0].sent_id, *_texts(first))
    same = second.__class__(**_fields(second) | {"sentences": (twin, *second.sentences[1:])})
    data.refs = tuple(same if ref is second else ref for ref in data.refs)
    info = data.info(first.image_id)
    mask = np.zeros((info.height, info.width), bool)
    mask[:4] = True
    row = {"image_id": first.image_id, "sentence": first.sentences[0].sent}
    row["segmentation"] = rle(mask)
    for rows in ([row], [row, row]):
        found = read_predictions(as_lines(tmp_path, rows), data, "val", allow_missing=True)
        assert {*found.codes} == {first.sentences[0].sent_id, twin.sent_id}
    other = row | {"segmentation": rle(~mask)}
    with pytest.raises(UserError, match="2 masks are of expressions that have one already"):
        read_predictions(as_lines(tmp_path, [row, other]), data, "val", allow_missing=True)


def _texts(ref):
    return ref.sentences[0].sent, ref.sentences[0].raw


def _fields(ref):
    return {name: getattr(ref, name) for name in ref.__slots__}


# --- faults ---------------------------------------------------------------------------------------


def test_missing_masks_are_refused_or_empty(dataset, predicted, tmp_path):
    rows = entries(dataset, predicted, "sent_id")
    path = as_lines(tmp_path, rows[2:])
    total, gone = len(rows), [row["sent_id"] for row in rows[:2]]
    with pytest.raises(
        UserError, match=f"2 of {total} expressions have no mask .sent_id {gone[0]}"
    ):
        read_predictions(path, dataset, "val")
    found = read_predictions(path, dataset, "val", allow_missing=True)
    assert found.missing == sorted(gone)
    records = score(dataset, "val", found).set_index("sent_id")
    assert (records.loc[gone, "intersection"] == 0).all()
    assert (records.loc[gone, "union"] == records.loc[gone, "target_pixels"]).all()


def test_all_faults_are_counted_in_one_sentence(dataset, predicted, tmp_path):
    rows = entries(dataset, predicted, "sent_id")
    tall = np.zeros((200, 10), bool)
    rows[1] = rows[1] | {"segmentation": rle(tall)}
    rows[2] = rows[2] | {"segmentation": {"size": rows[2]["segmentation"]["size"], "counts": "1"}}
    rows += [rows[3], {"sent_id": 10**9, "segmentation": []}, {"segmentation": []}]
    del rows[0]
    with pytest.raises(UserError) as said:
        read_predictions(as_lines(tmp_path, rows), dataset, "val", allow_missing=True)
    message = str(said.value)
    assert "have no mask" not in message, "which is allowed here"
    for words in (
        "1 mask is of an expression that has one already (line 12: sent_id",
        "2 entries are of no expression of the data set (line 13: sent_id 1000000000; line 14: it",
        "1 mask has another size than its image (line 1: 10 x 200 and not",
        "1 mask is damaged (line 2: its run lengths do not add up",
        "Correct the predictions",
    ):
        assert words in message, message


def test_masks_of_other_splits_are_left_aside(dataset, predicted, tmp_path):
    rows = entries(dataset, predicted, "sent_id")
    other = dataset.refs_of("testA")[0].sentences[0].sent_id
    path = as_lines(tmp_path, [*rows, {"sent_id": other, "segmentation": []}])
    assert read_predictions(path, dataset, "val").others == 1


def test_an_expression_of_another_image_is_refused(dataset, predicted, tmp_path):
    rows = entries(dataset, predicted, "sent_id", "image_id")
    rows[0]["image_id"] += 1
    with pytest.raises(UserError, match=r"is of image_id \d+ and not"):
        read_predictions(as_lines(tmp_path, rows), dataset, "val")


SIZE = [6, 8]


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        7,
        "text",
        {},
        {"size": SIZE},
        {"counts": "0"},
        {"size": SIZE, "counts": None},
        {"size": SIZE, "counts": "o" * 5000},
        {"size": SIZE, "counts": "é"},
        {"size": SIZE, "counts": "\ud800"},
        {"size": SIZE, "counts": [10**30]},
        {"size": SIZE, "counts": [-1, 49]},
        {"size": SIZE, "counts": [47.5, 0.5]},
        {"size": SIZE, "counts": [True] * 48},
        {"size": SIZE, "counts": []},
        {"size": SIZE, "counts": [[48]]},
        {"size": "68", "counts": "0"},
        {"size": [6], "counts": "0"},
        [[0, 0, 1e12, 1, 2, 2]],
        [[0, 0, float("nan"), 1, 2, 2]],
        [["a", "b"] * 3],
        [[[0, 0], [1, 1], [2, 0]]],
        [{"size": SIZE, "counts": "o" * 5000}],
        [{"size": [60000, 60000], "counts": [60000 * 60000]}],
        [[0, 0, 9e5, 9e5, 0, 9e5] * 20],
        [None],
        {"size": [2**40, 2**40], "counts": [2**80]},
        {"size": [None, {}], "counts": "0"},
    ],
    ids=lambda its: f"{its!r:.40}",
)
def test_no_segmentation_ends_in_a_traceback_or_takes_memory(segmentation, dataset, tmp_path):
    rows = [{"sent_id": ref.sentences[0].sent_id} for ref in dataset.refs_of("val")]
    with pytest.raises(UserError, match="masks (are damaged|have another size)"):
        path = as_lines(tmp_path, [row | {"segmentation": segmentation} for row in rows])
        read_predictions(path, dataset, "val", allow_missing=True)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"sent_id": "12"}, "sent_id 12 is no whole number"),
        ({"sent_id": True}, "sent_id True is no whole number"),
        ({"sent_id": [1]}, r"sent_id \[1\] is no whole number"),
        ({"ref_id": 70, "index": -1}, "ref_id 70 index -1"),
        ({"ref_id": 70}, "it has no sent_id"),
        ({"image_id": 7, "sentence": "no such thing"}, "'no such thing' of image 7"),
        ({"image_id": 7, "sentence": 5}, "it has no sent_id"),
        ({"image_id": 7, "sentence": "\x1b[31mred"}, r"\\x1b\[31mred"),
    ],
)
def test_what_names_no_expression_is_told(ids, message, dataset, tmp_path):
    with pytest.raises(UserError, match=message):
        path = as_lines(tmp_path, [ids | {"segmentation": []}])
        read_predictions(path, dataset, "val", allow_missing=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.json", None, "there are no predictions at"),
        ("empty.jsonl", b"", "is empty"),
        ("blank.jsonl", b"\n \n", "is empty"),
        ("text.jsonl", b"words\n", "line 1 is no JSON object"),
        ("cut.jsonl", b'{"sent_id": 1}\n{"sent', "line 2 is no JSON object"),
        ("number.jsonl", b"5\n", "line 1 is no JSON object"),
        ("cut.json", b'[{"sent_id": 1}', "is damaged"),
        ("deep.json", b"[" * 100_000, "is damaged"),
        ("deep.jsonl", b'{"a":' * 100_000 + b"\n", "line 1 is no JSON object"),
        ("cut.jsonl.gz", gzip.compress(b'{"sent_id": 1}\n' * 99, mtime=0)[:-9], "cannot be read"),
        ("bad.jsonl.gz", b"\x1f\x8b" + b"\0" * 40, "cannot be read"),
        ("bad.parquet", b"PAR1 and no more", "is no parquet table"),
        ("folder", "folder", "holds no PNG masks"),
    ],
)
def test_a_file_that_is_none_ends_in_one_sentence(name, content, message, dataset, tmp_path):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_predictions(path, dataset, "val")


def test_a_line_without_an_end_is_not_read_whole(dataset, tmp_path, monkeypatch):
    from benchmark.evaluation import prediction_files

    monkeypatch.setattr(prediction_files, "MOST_LINE", 1000)
    (tmp_path / "long.jsonl").write_bytes(b'{"sentence": "' + b"a" * 5000)
    with pytest.raises(UserError, match="line 1 has more than"):
        read_predictions(tmp_path / "long.jsonl", dataset, "val")


def test_a_gzipped_list_is_not_unpacked_without_bound(dataset, tmp_path, monkeypatch):
    from benchmark.evaluation import prediction_files

    monkeypatch.setattr(prediction_files, "MOST_BYTES", 10_000)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b"[" + b" " * 10**6 + b"]"))
    with pytest.raises(UserError, match="write JSON Lines"):
        read_predictions(path, dataset, "val")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda size: np.full(size, 7, np.uint8) * (np.arange(size[1]) % 3),
            "more than two values",
        ),
        (lambda size: np.zeros((size[1], size[0] + 1), np.uint8), "has another size"),
        (None, "mask is damaged"),
    ],
)
def test_a_picture_that_is_no_mask_is_told(make, message, dataset, tmp_path):
    ref = dataset.refs_of("val")[0]
    info = dataset.info(ref.image_id)
    path = tmp_path / f"{ref.sentences[0].sent_id}.png"
    if make:
        Image.fromarray(make((info.height, info.width)).astype(np.uint8)).save(path)
    else:
        path.write_bytes(b"no picture")
    (tmp_path / "notes.png").write_bytes(b"")
    with pytest.raises(UserError, match=message) as said:
        read_predictions(tmp_path, dataset, "val", allow_missing=True)
    assert "notes.png: it has no sent_id" in str(said.value)
