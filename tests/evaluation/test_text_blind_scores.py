"""Tests of what a run keeps of its text-blind baselines."""

import json

import pytest

from benchmark.base.errors import UserError
from benchmark.evaluation.text_blind_scores import read_scores, scores_path, write_scores
from tests.reports.fakes import WEAK, make_run, make_spec

SCORES = {"constant": 0.25, "mean": 0.125, "max": 0.0}


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path, make_spec(method=WEAK))


def test_what_was_written_is_read(run):
    assert read_scores(run, "val") is None
    write_scores(run, "val", SCORES, run.records("val"))
    assert read_scores(run, "val") == SCORES
    assert read_scores(run, "testA") is None
    assert [path.name for path in (run.path / "text_blind").iterdir()] == ["val.json"]


def test_numbers_of_other_weights_are_not_measured_ones(run):
    records = run.records("val")
    write_scores(run, "val", SCORES, records)
    run.write_records("val", records.assign(intersection=0))
    assert read_scores(run, "val") is None


@pytest.mark.parametrize(
    "change", [{"constant": 1.5}, {"mean": "nan"}, {"max": None}, {"other": 0.5}, {"records": 3}]
)
def test_a_damaged_file_is_named_with_the_command_that_mends_it(run, change):
    write_scores(run, "val", SCORES, run.records("val"))
    path = scores_path(run, "val")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=f"val.json is damaged.*{run.key} --split val --text-blind"):
        read_scores(run, "val")
    path.write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        read_scores(run, "val")
