"""The file of a card is made of what was measured on it, and is added to by later measurements."""

import json

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.cards import card
from tests.speed import card_file

RATES = {f"{name}_flops_per_second": 1e12 for name in card_file.PRECISIONS}


def results(*rows, **changes):
    its = {"state": "measured", "card": "NVIDIA Test", "memory_bytes": 1000, **RATES}
    return {"card": its | {"copy_bytes_per_second": 1e11} | changes, "rows": [*rows]}


def row(strategy="baseline", precision="fp16", seconds=0.5, **changes):
    values = {"kind": "step", "method": "cris", "variant": "paper", "strategy": strategy}
    values |= {"mode": "published", "state": "measured", "precision": precision, "pairs": 8}
    values |= {"median_seconds": seconds, "flops": 1000, "peak_bytes": 900}
    return values | changes


def test_measured_steps_make_a_card_that_plans_read(tmp_path):
    path = tmp_path / "test.json"
    card_file.write(path, [results(row(), row("maskris"), row("amlris", state="failed"))])
    its = card(str(path))
    assert its.card == "NVIDIA Test" and its.rates().bytes == 1e11 and its.peak is None
    assert [(step.strategy, step.passes) for step in its.steps] == [("baseline", 1), ("maskris", 2)]
    assert its.steps[0].seconds == 0.5 and its.steps[0].source == "measured"


def test_what_is_measured_again_replaces_what_was_and_the_rest_stays(tmp_path):
    path = tmp_path / "test.json"
    card_file.write(path, [results(row(), row("maskris"))])
    values = json.loads(path.read_text()) | {"source": "a data sheet"}
    path.write_text(json.dumps(values | {"peak": values["measured"]}))
    content = results(row(seconds=0.25), row(precision="fp32"))
    its = card_file.write(path, [content])
    assert its.source == "a data sheet" and its.peak.fp32 == 1e12
    assert [(step.strategy, step.precision, step.seconds) for step in its.steps] == [
        ("baseline", "fp16", 0.25),
        ("maskris", "fp16", 0.5),
        ("baseline", "fp32", 0.5),
    ]


def test_a_file_of_another_card_is_left_alone(tmp_path):
    path = tmp_path / "test.json"
    card_file.write(path, [results(row())])
    before = path.read_text()
    with pytest.raises(UserError, match="is about NVIDIA Test, and this is Other"):
        card_file.write(path, [results(card="Other")])
    with pytest.raises(UserError, match="no GPU was measured"):
        card_file.write(path, [{"card": {"state": "not run"}, "rows": []}])
    assert path.read_text() == before
