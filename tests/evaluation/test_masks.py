"""Run-length codes and tables of them against pycocotools, and what is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco
from pycocotools.coco import COCO

from benchmark.base.errors import UserError
from benchmark.evaluation.masks import (
    COLUMNS,
    as_coco,
    codes,
    decode,
    encode,
    frame,
    overlap,
    rows_of,
)
from benchmark.runs.rundir import RunDir


def random_mask(seed, height=13, width=7):
    return np.random.default_rng(seed).random((height, width)) > 0.6


@pytest.mark.parametrize(
    "mask", [random_mask(0), random_mask(1, 1, 1), np.zeros((5, 8), bool), np.ones((5, 8), bool)]
)
def test_what_is_encoded_is_decoded_again(mask):
    rle = encode(mask)
    assert json.loads(json.dumps(rle)) == rle
    again = decode(rle)
    assert again.dtype == bool and again.flags.c_contiguous
    np.testing.assert_array_equal(again, mask)
    np.testing.assert_array_equal(coco.decode(rle), mask)
    assert encode(mask.astype(np.uint8)) == rle


def test_overlap_counts_pixels():
    one, two = random_mask(2), random_mask(3)
    expected = int((one & two).sum()), int((one | two).sum())
    assert overlap(one, two) == overlap(one, two.astype(np.uint8)) == expected


RLE = encode(random_mask(4))


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ("text", "has the entries"),
        ({"size": [13, 7]}, "has the entries"),
        (RLE | {"size": [13]}, r"is \[height, width\]"),
        (RLE | {"size": [13, 0]}, r"is \[height, width\]"),
        (RLE | {"size": [13.0, 7]}, r"is \[height, width\]"),
        (RLE | {"size": 13}, r"is \[height, width\]"),
        (RLE | {"counts": [91]}, "are a text"),
        (RLE | {"counts": ""}, "do not add up"),
        (RLE | {"counts": RLE["counts"][:-2]}, "do not add up"),
        (RLE | {"size": [14, 7]}, "do not add up"),
        (RLE | {"counts": RLE["counts"] + "9"}, "."),
        (RLE | {"size": [12, 7]}, "."),
        (RLE | {"counts": "é"}, "."),
        (RLE | {"counts": "o" * 50}, "."),
    ],
)
def test_a_damaged_code_is_refused(rle, message):
    with pytest.raises(ValueError, match=message):
        decode(rle)


# --- tables ---------------------------------------------------------------------------------------


def prediction(*masks):
    sentences = [SimpleNamespace(sent_id=number) for number in range(5, 5 - len(masks), -1)]
    return SimpleNamespace(image=SimpleNamespace(sentences=sentences), masks=[*masks])


def test_a_table_of_masks_is_read_as_it_was_written(tmp_path):
    written = [random_mask(7), np.zeros((13, 7), bool), random_mask(8)]
    run = RunDir(tmp_path)
    run.write_masks("val", frame(rows_of(prediction(*written))))
    assert list(run.masks("val")["sent_id"]) == [3, 4, 5]
    for sent_id, mask in zip((5, 4, 3), written, strict=True):
        np.testing.assert_array_equal(decode(codes(run.masks("val", [sent_id]))[sent_id]), mask)
    assert list(frame(rows_of(prediction(*written), {4}))["sent_id"]) == [4]
    assert frame([]).empty and list(frame([]).columns) == [*COLUMNS]


def test_the_bytes_of_a_table_do_not_depend_on_the_order_of_rows(tmp_path):
    rows = rows_of(prediction(random_mask(7), random_mask(8)))
    contents = []
    for order in (rows, rows[::-1]):
        run = RunDir(tmp_path / str(len(contents)))
        run.write_masks("val", frame(order))
        contents.append(run.masks_path("val").read_bytes())
    assert contents[0] == contents[1]


def test_missing_and_damaged_masks_are_named(tmp_path):
    run = RunDir(tmp_path / "key")
    with pytest.raises(UserError, match="no masks of split 'val'.*predict key --split val"):
        run.masks("val")
    run.masks_path("val").parent.mkdir(parents=True)
    run.masks_path("val").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="is damaged: delete it, and make it again"):
        run.masks("val")


def test_pycocotools_reads_what_is_exported(tmp_path):
    mask = random_mask(9)
    records = pd.DataFrame(
        {"image_id": [1], "ref_id": [2], "sent_id": [5], "sentence": ["the red one"]}
    )
    exported = as_coco(records, frame(rows_of(prediction(mask))))
    truth = COCO()
    truth.dataset = {"images": [{"id": 1}], "annotations": [], "categories": []}
    truth.createIndex()
    (tmp_path / "masks.json").write_text(json.dumps(exported))
    (read,) = truth.loadRes(str(tmp_path / "masks.json")).loadAnns([1])
    np.testing.assert_array_equal(coco.decode(read["segmentation"]), mask)
    assert read["area"] == mask.sum() and read["sent_id"] == 5 and read["ref_id"] == 2
