"""What the file of the reference card says of published CARIS, read without the suite."""

import json

from tests.helpers import PROJECT

REFS = 42404  # of RefCOCO's train split
EPOCHS, PAIRS = 50, 16


def hours(strategy):
    """Return the hours that a run on RefCOCO takes on one H100."""
    card = json.loads((PROJECT / "benchmark/planning/speeds/h100.json").read_text())
    (seconds,) = [
        step["seconds"]
        for step in card["steps"]
        if (step["method"], step["strategy"], step["precision"]) == ("caris", strategy, "fp16")
        and step["pairs"] == PAIRS
    ]
    return seconds * REFS * EPOCHS / PAIRS / 3600
