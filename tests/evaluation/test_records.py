"""Records of predictions, columns that metrics add, tables of earlier code, and damaged ones."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmark.base.errors import UserError
from benchmark.base.rng import generator
from benchmark.evaluation import bootstrap, metrics
from benchmark.evaluation.records import (
    ALWAYS,
    COLUMNS,
    Prediction,
    added_columns,
    canonical,
    frame,
    records_of,
    validate_records,
)
from tests.evaluation.plugins import PLUGIN, SHIPPED
from tests.evaluation.tables import random_table, table_of

# --- writing --------------------------------------------------------------------------------------


def prediction(image_id=5, empty=False):
    """Three sentences about two objects of a picture; with `empty`, one more about none."""
    draw = np.random.default_rng(image_id)
    masks = {(1,): np.zeros((20, 30), np.uint8), (2, 3): np.zeros((20, 30), np.uint8)}
    masks[1,][2:9, 3:12] = masks[2, 3][5:15, 20:28] = masks[2, 3][1:3, 15:20] = 1
    named = [(1,), (2, 3), (2, 3)]
    if empty:
        masks[()] = np.zeros((20, 30), np.uint8)
        named.append(())
    refs = [SimpleNamespace(ref_id=7, ann_ids=ids, ann_id=ids[0] if ids else -1) for ids in named]
    sentences = [
        SimpleNamespace(sent_id=10 * image_id + number, sent=f"thing {number}")
        for number in range(len(refs))
    ]
    image = SimpleNamespace(image_id=image_id, refs=refs, sentences=sentences, masks=masks)
    guesses = [np.roll(masks[ids] > 0, draw.integers(5), axis=1) for ids in named]
    return Prediction(image, guesses, [])


def test_records_hold_counts_of_every_expression():
    its = prediction()
    records = frame(records_of(its))
    assert [*records.columns] == [*COLUMNS] and len(records) == 3
    for number, row in enumerate(records.itertuples()):
        truth = its.truth(number).astype(bool)
        assert row.sent_id == 50 + number and row.sentence == f"thing {number}"
        assert row.intersection == (its.masks[number] & truth).sum()
        assert row.union == (its.masks[number] | truth).sum()
        assert row.target_pixels == truth.sum()
        other = its.image.refs[number].ann_ids
        others = [n for n, ref in enumerate(its.image.refs) if ref.ann_ids != other]
        drawn = others[generator("swap", 5, 50 + number).integers(len(others))]
        assert row.swapped_intersection == (its.masks[drawn] & truth).sum()
        assert row.swapped_union == (its.masks[drawn] | truth).sum()
    assert records["ann_id"].tolist() == [1, 2, 2]
    validate_records(records)


def test_an_expression_without_a_target_has_a_record():
    records = frame(records_of(prediction(empty=True)))
    last = records.iloc[3]
    assert (last["ann_id"], last["target_pixels"], last["union"]) == (-1, 0, 0)
    validate_records(records)


def test_a_part_without_images_has_a_table_of_the_same_types():
    whole, empty = frame(records_of(prediction())), frame([])
    assert empty.empty and empty.drop(columns="sentence").dtypes.equals(
        whole.drop(columns="sentence").dtypes
    )


def test_the_table_of_gathered_parts_is_the_whole():
    rows = [*records_of(prediction(6)), *records_of(prediction(5))]
    parts = [frame(rows[:3]), frame(rows[3:]), frame([])]
    gathered = frame([row for part in parts for row in part.to_dict("records")])
    pd.testing.assert_frame_equal(gathered, frame(rows))


def test_canonical_numbers_are_those_that_json_gives_back():
    assert canonical({"a": 0.1, "b": float("nan")}) == {"a": 0.1, "b": None}


# --- columns that metrics add ---------------------------------------------------------------------


def test_a_plugin_metric_goes_from_masks_to_an_interval(plugin, tmp_path):
    predictions = [prediction(image_id) for image_id in range(8)]
    records = frame([row for its in predictions for row in records_of(its)])
    assert [*records.columns] == [*COLUMNS, "edge_intersection", "edge_union"]
    assert records["edge_union"].dtype == np.int64
    records.to_parquet(tmp_path / "val.parquet", index=False)
    records = pd.read_parquet(tmp_path / "val.parquet")
    validate_records(records)
    numbers = metrics.compute(records)
    assert [*numbers] == [*SHIPPED, "anything", "boundary", "zero"]
    expected = records["edge_intersection"].sum() / records["edge_union"].sum()
    assert 0 < expected < 1 and numbers["boundary"] == expected
    interval = bootstrap.intervals(records)["boundary"]
    assert interval.low < numbers["boundary"] < interval.high
    worse = records.assign(edge_intersection=records["edge_intersection"] // 2)
    difference = bootstrap.paired_differences({0: records}, {0: worse})["boundary"]
    assert difference.value == metrics.compute(worse)["boundary"] - numbers["boundary"] < 0
    assert difference.interval.high < 0


def test_added_columns_do_not_change_the_others(plugin, monkeypatch):
    with_them = frame(records_of(prediction()))
    monkeypatch.delenv("RISBENCH_PLUGINS")
    pd.testing.assert_frame_equal(with_them[[*COLUMNS]], frame(records_of(prediction())))


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ('"edge_union": either', '"union": either', "adds the column 'union'"),
        ('needs=("target_pixels",),\n    adds={"edge_intersection": both}',
         'adds={"edge_intersection": either}', "adds the column 'edge_intersection'"),
    ],
)  # fmt: skip
def test_a_column_has_one_meaning(was, becomes, message, tmp_path, monkeypatch):
    path = tmp_path / "plugin.py"
    assert was in PLUGIN
    path.write_text(PLUGIN.replace(was, becomes))
    monkeypatch.setenv("RISBENCH_PLUGINS", str(path))
    with pytest.raises(UserError, match=message):
        added_columns()


def test_an_added_column_holds_numbers(tmp_path, monkeypatch):
    path = tmp_path / "plugin.py"
    path.write_text(
        PLUGIN.replace("return int((edge(predicted) &", "return str((edge(predicted) &")
    )
    monkeypatch.setenv("RISBENCH_PLUGINS", str(path))
    with pytest.raises(UserError, match="'edge_intersection', which a metric adds, holds .* not"):
        frame(records_of(prediction()))


# --- tables of earlier code, and damaged ones -----------------------------------------------------


def test_tables_of_earlier_code_are_read(tmp_path):
    old = frame(records_of(prediction()))[[*ALWAYS]]
    old.to_parquet(tmp_path / "val.parquet", index=False)
    old = pd.read_parquet(tmp_path / "val.parquet")
    validate_records(old)
    assert metrics.compute(old) == metrics.compute(frame(records_of(prediction())))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("intersection", -1, r"column intersection is negative in row 2 \(sent_id 2\)"),
        ("union", 1, r"intersection exceeds union in row 2"),
        ("swapped_union", 1, r"swapped_intersection exceeds swapped_union in row 2"),
        (
            "swapped_union",
            None,
            r"only one of swapped_intersection and swapped_union is there in row 2",
        ),
        ("sent_id", 0, r"a sent_id stands there for the second time in row 2 \(sent_id 0\)"),
        ("sentence", None, r"column sentence holds no text in row 2"),
        ("target_pixels", 4, r"intersection exceeds target_pixels in row 2"),
        ("target_pixels", 10, r"target_pixels exceeds union in row 2"),
    ],
)
def test_a_damaged_row_is_named(column, value, message):
    records = table_of([5] * 4, [9] * 4, swapped=([3] * 4, [9] * 4)).assign(target_pixels=7)
    validate_records(records)
    records.loc[2, column] = value
    with pytest.raises(UserError, match=f"^val.parquet is damaged: {message}"):
        validate_records(records, "val.parquet")


def test_a_damaged_table_is_named():
    records = random_table(0)
    for damaged, message in (
        (records.drop(columns=["union", "ann_id"]), "no column ann_id and no column union"),
        (records.iloc[:0], "holds no expression"),
        (records.assign(target_pixels=0.5), "column target_pixels holds float64 and not whole"),
        (records.astype({"union": "float64"}), "column union holds float64 and not whole numbers"),
        (records.astype({"swapped_union": "str"}), "column swapped_union holds str"),
        (
            records.assign(swapped_union=records["swapped_union"].astype(float) + 0.5),
            "swapped_union is not a whole",
        ),
        (
            records.assign(union=records["union"].astype("Int64").where(records["sent_id"] != 3)),
            "union is empty in row 3",
        ),
    ):
        with pytest.raises(UserError, match=message):
            validate_records(damaged)
