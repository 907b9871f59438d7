"""A plugin file with three metrics, of which two share a column that they add."""

SHIPPED = ["oiou", "miou", "p_50", "p_60", "p_70", "p_80", "p_90", "grounding_gap"]
NO_TARGET = ["giou", "n_acc", "t_acc"]  # those of records with an expression that has no target

PLUGIN = """
import numpy as np

from benchmark.evaluation.metrics import Metric

RISBENCH = {"metrics": {"boundary": "BOUNDARY", "anything": "ANYTHING", "zero": "ZERO"}}


def edge(mask):
    inner = np.pad(mask, 1)
    whole = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return mask & ~whole


def both(predicted, truth):
    return int((edge(predicted) & edge(truth)).sum())


def either(predicted, truth):
    return int((edge(predicted) | edge(truth)).sum())


BOUNDARY = Metric(
    name="boundary",
    heading="boundary IoU",
    described_by="Boundary IoU is oIoU of the masks' edges.",
    top=lambda records: records["edge_intersection"].to_numpy(float),
    bottom=lambda records: records["edge_union"].to_numpy(float),
    adds={"edge_intersection": both, "edge_union": either},
)
ANYTHING = Metric(
    name="anything",
    heading="marked",
    described_by="Marked is the share of expressions with a target whose edge is found.",
    top=lambda records: (records["edge_intersection"] > 0).to_numpy(float),
    bottom=lambda records: (records["target_pixels"] > 0).to_numpy(float),
    needs=("target_pixels",),
    adds={"edge_intersection": both},
)
ZERO = Metric(
    name="zero",
    heading="zero",
    described_by="It is always 0.",
    top=lambda records: 0 * records["union"].to_numpy(float),
    unit="pixels",
    higher_is_better=False,
)
"""
