"""Grouping by image: the same records as one expression at a time, and a bound on what it saves."""

import pytest
import torch
from rich.console import Console

from benchmark.base.errors import UserError
from benchmark.evaluation.inference import Loaded, build_method
from benchmark.robustness.conditions import parse_condition
from benchmark.runs.opened import Opened
from tests.helpers import tiny_spec
from tests.speed.grouping import bound, compare, show


def test_grouping_changes_no_record_and_the_network_does_less(boxes, capsys):
    spec, places = tiny_spec(boxes, "cris")
    dataset, tokenizer = Opened(places).run(spec)
    method = build_method(spec, tokenizer).eval()
    network = Loaded(spec.key, method, dataset, tokenizer, torch.device("cpu"))
    comparison = compare(network, "val", parse_condition("fog-2"), 2)
    assert comparison.expressions == 6
    assert comparison.grouped.meter.counts["decode"] == 2
    assert comparison.naive.meter.counts["decode"] == 12
    show({spec.key: comparison}, "2 images", Console(width=150))
    text = capsys.readouterr().out
    assert f"{spec.key}: the same records" in text or "by at most 1 pixels" in text
    with pytest.raises(UserError, match="grouping is measured on images"):
        compare(network, "val", parse_condition("words"), 2)


def test_the_bound_of_grouping():
    assert bound(3.0, 1.0, 1) == 1, "nothing to share"
    assert bound(0.0, 1.0, 6) == 1, "no text-free part"
    assert bound(1.0, 0.0, 6) == 6, "all of it is text-free"
    assert bound(3.0, 1.0, 4) == pytest.approx(4 / 1.75)
