"""Results under conditions are listed with the files of their run, so a changed byte is noticed."""

import numpy as np
import pandas as pd
import pytest

from benchmark.base.errors import UserError, WorldError
from benchmark.robustness.conditions import parse_condition
from benchmark.robustness.results import (
    masks_path,
    read_masks,
    read_results,
    results_path,
    summarize,
    write_masks,
    write_results,
)
from benchmark.runs import integrity
from benchmark.runs.rundir import RunDir
from tests.faults.damage import DAMAGES
from tests.reports.fakes import make_records

FOG, SNOW = parse_condition("fog-3"), parse_condition("snow-1")
METRICS = "robustness/val/metrics.json"


@pytest.fixture
def run(tmp_path):
    """Return a finished run, whose files are listed."""
    run = RunDir(tmp_path / "run")
    run.write_json("result.json", {"val": {}})
    integrity.seal(run.path)
    return run


def records():
    return make_records(np.random.default_rng(0))


def check_flips(path, read, reason):
    """Flip one byte after another, and check that each is noticed."""
    content = path.read_bytes()
    read()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        with pytest.raises(UserError, match=reason):
            read()
    path.write_bytes(content)
    read()


def test_every_flipped_byte_is_noticed(run):
    write_results(run, "val", FOG, records(), left_out=[7])
    masks = pd.DataFrame({"sent_id": range(40), "counts": [f"mask{n * n}" for n in range(40)]})
    write_masks(run, "val", FOG, masks)
    summarize(run, "val")
    check_flips(
        results_path(run, "val", FOG), lambda: read_results(run, "val", FOG), "parquet is damaged"
    )
    check_flips(masks_path(run, "val", FOG), lambda: read_masks(run, "val", FOG), "or damaged")
    check_flips(run.path / METRICS, lambda: run.read_json(METRICS), "metrics.json is damaged")
    pd.testing.assert_frame_equal(read_results(run, "val", FOG), records())


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_of_a_result_is_named_and_made_good_as_it_says(run, damage):
    write_results(run, "val", FOG, records())
    path = results_path(run, "val", FOG)
    DAMAGES[damage](path)
    with pytest.raises(UserError, match="fog-3.parquet is damaged: delete|was not evaluated under"):
        read_results(run, "val", FOG)
    if path.is_file():
        path.unlink()
        write_results(run, "val", FOG, records().assign(union=10**6))
        assert set(read_results(run, "val", FOG)["union"]) == {10**6}


def test_a_summary_that_is_damaged_is_made_again(run):
    write_results(run, "val", FOG, records())
    summarize(run, "val")
    before = (run.path / METRICS).read_text()
    (run.path / METRICS).write_text(before.replace("0.", "1."))
    with pytest.raises(WorldError, match="metrics.json is damaged"):
        run.read_json(METRICS)
    summarize(run, "val")
    assert (run.path / METRICS).read_text() == before and run.read_json(METRICS)


def test_what_a_kill_kept_from_the_list_is_listed_later(run, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(integrity, "renew", lambda *_: None)
        write_results(run, "val", FOG, records())
    write_results(run, "val", SNOW, records())
    assert "robustness/val/fog-3.parquet" not in integrity.listed(run.path)
    summarize(run, "val")
    names = {"robustness/val/fog-3.parquet", "robustness/val/snow-1.parquet", METRICS}
    assert names <= integrity.listed(run.path).keys()
    assert integrity.changed(run.path, [integrity.LATER]) is None


def test_runs_of_earlier_versions_have_results_and_no_list(tmp_path):
    run = RunDir(tmp_path / "run")
    write_results(run, "val", FOG, records())
    summarize(run, "val")
    assert not integrity.listed(run.path)
    pd.testing.assert_frame_equal(read_results(run, "val", FOG), records())
