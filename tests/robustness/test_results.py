"""Results under conditions notice that a byte of theirs has changed."""

import numpy as np
import pandas as pd
import pytest

from benchmark.base.errors import UserError
from benchmark.robustness.conditions import parse_condition
from benchmark.robustness.results import (
    masks_path,
    read_masks,
    read_results,
    results_path,
    write_masks,
    write_results,
)
from benchmark.runs.rundir import RunDir
from tests.faults.damage import DAMAGES

FOG = parse_condition("fog-3")


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path / "run")


def flipped(path, check):
    """Flip one byte after another, and count how often `check` says that the file is damaged."""
    content = path.read_bytes()
    noticed = 0
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        noticed += check()
    path.write_bytes(content)
    return noticed


def test_no_flipped_byte_gives_other_numbers(run):
    rng = np.random.default_rng(0)
    records = pd.DataFrame(
        {
            "sent_id": np.arange(400),
            "sentence": [f"box {number % 9}" for number in range(400)],
            "intersection": rng.integers(0, 9000, 400),
            "union": rng.integers(9000, 20000, 400),
        }
    )
    write_results(run, "val", FOG, records, left_out=[7])

    def is_damaged():
        try:
            found = read_results(run, "val", FOG)
        except UserError as error:
            assert "fog-3.parquet is damaged" in str(error)
            return True
        # What is read all the same has a flipped byte where no number stands.
        assert found[["intersection", "union"]].to_numpy().tolist() == numbers
        return False

    numbers = records[["intersection", "union"]].to_numpy().tolist()
    assert not is_damaged()
    assert flipped(results_path(run, "val", FOG), is_damaged) > 100


def test_no_flipped_byte_gives_other_masks(run):
    masks = pd.DataFrame({"sent_id": range(40), "counts": [f"mask{n * n}" for n in range(40)]})
    write_masks(run, "val", FOG, masks)

    def is_damaged():
        try:
            assert read_masks(run, "val", FOG)["counts"].tolist() == masks["counts"].tolist()
        except UserError as error:
            assert "missing or damaged" in str(error)
            return True
        return False

    assert not is_damaged()
    assert flipped(masks_path(run, "val", FOG), is_damaged) > 10


@pytest.mark.parametrize("damage", sorted({*DAMAGES} - {"flipped"}))
def test_every_damage_of_a_result_is_named(run, damage):
    records = pd.DataFrame({"sent_id": range(9), "intersection": range(9), "union": range(9, 18)})
    write_results(run, "val", FOG, records)
    path = results_path(run, "val", FOG)
    DAMAGES[damage](path)
    with pytest.raises(UserError, match="fog-3.parquet is damaged|was not evaluated under fog-3"):
        read_results(run, "val", FOG)
