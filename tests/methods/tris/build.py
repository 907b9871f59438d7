"""A small TRIS and random inputs for its tests."""

import numpy as np
import torch

from benchmark.base.rng import generator
from methods.contract import Batch, Text
from methods.tris.method import TRIS
from tests.helpers import PROJECT

FIXTURE = PROJECT / "tests" / "parity" / "fixtures" / "tris_rn50.npz"
WORDS, NEGATIVES = 60, 6
CPU = torch.device("cpu")


def random(*shape):
    return torch.from_numpy(generator("tris test", *shape).standard_normal(shape, dtype=np.float32))


def sentences(count, key="sentences"):
    ids = torch.zeros(count, 20, dtype=torch.int64)
    for row in range(count):
        pieces = torch.from_numpy(generator(key, row).integers(1, WORDS - 2, 2 + row % 5))
        ids[row, : len(pieces) + 2] = torch.tensor([WORDS - 2, *pieces, WORDS - 1])
    return Text(ids, (ids != 0).long())


def batch_of(count=3):
    return Batch(
        random(count, 3, 96, 96),
        sentences(count),
        None,
        list(range(count)),
        sentences(count * NEGATIVES, "negatives"),
    )


def build(variant="tiny"):
    torch.manual_seed(0)
    method = TRIS(TRIS.definition.variants[variant], WORDS)
    for module in method.modules():  # away from CLIP's start, at which a block adds nothing
        if hasattr(module, "bn3"):
            torch.nn.init.normal_(module.bn3.weight)
    return method


def shapes(state):
    return {name: list(value.shape) for name, value in state.items()}
