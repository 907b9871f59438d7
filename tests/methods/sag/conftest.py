"""A tiny SaG, a batch for it, and the names of the published one."""

import json

import numpy as np
import pytest
import torch

from methods.contract import Batch, Text
from methods.sag.method import SaG
from tests.methods.sag.build import FIXTURE, random


@pytest.fixture(scope="module")
def tiny() -> SaG:
    torch.manual_seed(0)
    return SaG(SaG.definition.variants["tiny"], 200).eval()


@pytest.fixture(scope="module")
def batch(tiny) -> Batch:
    """Four pairs without any target."""
    side, words = tiny.config.size, tiny.config.max_length
    ids = torch.zeros(4, words, dtype=torch.int64)
    for row in range(4):
        ids[row, : 4 + row] = torch.tensor([2, *range(9 + 5 * row, 11 + 6 * row), 3])
    return Batch(random(4, 3, side, side), Text(ids, (ids != 0).long()), None, [0, 1, 2, 3])


@pytest.fixture(scope="module")
def keys() -> dict[str, list]:
    with np.load(FIXTURE) as archive:
        return json.loads(str(archive["keys"]))


@pytest.fixture(scope="module")
def aliases() -> dict[str, str]:
    with np.load(FIXTURE) as archive:
        return json.loads(str(archive["aliases"]))


@pytest.fixture(scope="module")
def unread() -> set[str]:
    with np.load(FIXTURE) as archive:
        return set(json.loads(str(archive["no_grad_keys"])))
